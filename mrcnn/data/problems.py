"""Faults of annotations, and how readers report them."""

import logging
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

logger = logging.getLogger("mrcnn")

SEVERITIES = ("error", "warning", "info")

LONGEST_WORD, LONGEST_LINE = 400, 2000  # maximum numbers of characters in messages

# Reasons why an annotated object is not trained on.
NO_AREA = "no area"
UNREAD = "unsupported shape"
POINTS = "drawn as points or lines"
CROWD = "crowd"
CUT_OFF = "cut off by the border"
TOO_MANY = "more than MAX_GT_INSTANCES"
TOO_SMALL = "nothing left of it in the input"
OF_BACKGROUND = "of the background"


def one_line(text: object) -> str:
    """Return a string as one readable line: no control characters, no overlong words."""
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))
    line = re.sub(
        rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:100]}...{word[0][-20:]}", line
    )
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 200]} ... {line[-100:]}"


@dataclass(frozen=True)
class Finding:
    """One fault, or something worth knowing.

    Attributes:
        severity: error (fix before training), warning (trainable, but check it), info.
        code: a fixed name of the kind of fault, such as "missing-image".
        message: human-readable description.
        image: name of the image; None if it concerns the whole dataset.
        object: id or index of the object in its image, as in the file.
        remedy: what to do about it.
        part: training or validation, for a pair of datasets.
    """

    severity: str
    code: str
    message: str
    image: str | None = None
    object: Any = None
    remedy: str = ""
    part: str | None = None

    def __str__(self) -> str:
        where = "" if self.object is None else f"object {self.object} of "
        return f"{where}image {self.image}: {self.message}" if self.image else self.message

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Loss:
    """An annotated object that is not trained on.

    Attributes:
        class_name: name of its class; None if unknown.
        reason: one of those above.
        image: name of its image.
        count: number of such objects.
    """

    class_name: str | None
    reason: str
    image: str | None
    count: int = 1


@dataclass
class Problems:
    """Collects a reader's findings. Readers call `error`, `warning` and `info` and continue.

    Attributes:
        strict: raise on errors, as needed for training; else only collect them.
        found: the findings, in file order.
        losses: the objects that are left out.
    """

    strict: bool = True
    found: list[Finding] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def error(self, code: str, message: str, **where: Any) -> None:
        """Record a fault that prevents training on the dataset.

        Args:
            where: image, object and remedy of the `Finding`.

        Raises:
            ValueError: If `strict`.
        """
        finding = self._note("error", code, message, where)
        if self.strict:
            raise ValueError(f"{finding}; {finding.remedy}" if finding.remedy else str(finding))

    def warning(self, code: str, message: str, **where: Any) -> None:
        """Record something that is left out or changed."""
        self._note("warning", code, message, where)

    def dropped(
        self, message: object, class_name: str | None = None, reason: str = UNREAD, **where: Any
    ) -> None:
        """Record an object that is left out.

        Args:
            message: what is wrong with it.
            class_name: name of its class.
            reason: reason of the `Loss`.
            where: image and object of the `Finding`.
        """
        remedy = "redraw or remove it; it is left out of training"
        self.warning("no-area", f"dropped: {message}", remedy=remedy, **where)
        self.losses.append(Loss(class_name, reason, where.get("image")))

    def info(self, code: str, message: str, **where: Any) -> None:
        """Record something worth knowing."""
        self._note("info", code, message, where)

    def log(self) -> None:
        """Log the warnings, one line per kind, with the first case of each."""
        kinds = defaultdict(list)
        for finding in self.found:
            if finding.severity == "warning":
                kinds[finding.code].append(finding)
        for findings in kinds.values():
            more = f" (and {len(findings) - 1} more like it)" if len(findings) > 1 else ""
            logger.warning("%s%s", findings[0], more)

    def _note(self, severity: str, code: str, message: str, where: dict[str, Any]) -> Finding:
        image, place = where.get("image"), where.get("object")
        finding = Finding(
            severity,
            code,
            one_line(message),
            image=None if image is None else one_line(image),
            object=one_line(place) if isinstance(place, str) else place,
            remedy=where.get("remedy", ""),
        )
        self.found.append(finding)
        return finding
