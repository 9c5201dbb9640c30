"""The contract of an objective."""

from abc import ABCMeta, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils.plan import TrainingPlan
from ..utils.step import Needs, Step


class DistillHead(BaseModule, metaclass=ABCMeta):
    """One objective over what the networks see in the same views.

    A head owns the parameters and buffers that exist only for its objective
    (prototypes, queue, classifier, connectors), says what it wants computed
    in :attr:`needs`, and returns its terms from :meth:`loss`. To add a
    method, write one subclass; the distiller is not touched.

    Attributes:
        trained: names of the networks that learn their task from this head
            (an adversary does not count). An online teacher must be among
            those of some head.
        averaged: pairs ``(average, source)`` of equal modules of this head;
            each average follows its source as the momentum student follows
            the student.
        active: False while the head waits for its start; a supervised
            distiller then computes nothing for it.
        label_weight: factor that an active head puts on the loss of the
            labels, in a supervised distiller.
    """

    trained: tuple[str, ...] = ('student',)
    averaged: tuple[tuple[nn.Module, nn.Module], ...] = ()
    active: bool = True
    label_weight: float = 1.0

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which encodings of which network this head reads."""

    @abstractmethod
    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the terms of one step.

        Args:
            step: encodings of the networks, see
                :class:`~mmssd.models.utils.Step`. Runs with autocast off;
                compute in at least float32.

        Returns:
            Scalars by name. Terms to be summed into the total start with
            ``loss_``; diagnostics must not contain ``loss``.
        """

    def layers(self, step: Step) -> list[Tensor]:
        """Return what layers of this head make of the encodings.

        Of those layers alone that its paper counts among the networks, and
        before any formula: the benchmarks can put them on the networks'
        side. None by default.

        Args:
            step: as :meth:`loss` gets it.
        """
        return []

    def check_networks(self, student, teacher) -> None:
        """Refuse networks that do not fit the head, on construction.

        Does nothing by default.

        Args:
            student: the backbone of the student.
            teacher: the backbone of the teacher, ``None`` without one.

        Raises:
            ValueError: naming what differs.
        """

    def check_widths(self, student, teacher) -> None:
        """Refuse embeddings that do not fit the head, on construction.

        Does nothing by default.

        Args:
            student: width of what the student's projector gives, ``None``
                if there is none or it is not known.
            teacher: likewise.

        Raises:
            ValueError: naming what differs.
        """

    def check(self, plan: TrainingPlan) -> None:
        """Refuse a training that cannot work, before it starts.

        Called by :class:`~mmssd.engine.HealthHook`. Does nothing by default.

        Args:
            plan: numbers of the training.

        Raises:
            SetupError: naming value and remedy.
        """

    def prepare(self, teacher) -> None:
        """Take what the head needs from a freshly initialised teacher.

        Called once by ``Distiller.init_weights`` when there is a teacher,
        after its weights are in place. Does nothing by default.
        """
