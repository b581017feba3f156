"""What is wrong with a set of annotations, and how a reader reports it."""

import logging
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

logger = logging.getLogger("mrcnn")

SEVERITIES = ("error", "warning", "info")

LONGEST_WORD, LONGEST_LINE = 400, 2000  # characters of messages

# Why an annotated object does not train.
NO_AREA = "no area"
UNREAD = "unread shape"
POINTS = "drawn as points or lines"
CROWD = "crowd"
CUT_OFF = "cut off by the border"
TOO_MANY = "more than MAX_GT_INSTANCES"
TOO_SMALL = "nothing left of it in the input"
OF_BACKGROUND = "of the background"


def one_line(text: object) -> str:
    """Return a text as a line that people can read: no control characters, no endless words."""
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))
    line = re.sub(
        rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:100]}...{word[0][-20:]}", line
    )
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 200]} ... {line[-100:]}"


@dataclass(frozen=True)
class Finding:
    """One fault, or something worth knowing.

    Attributes:
        severity: error (train on it only after mending), warning (trains, but look at it), info.
        code: a fixed name of the kind of fault, such as "missing-image".
        message: what is so, for people.
        image: the name of the image, None where it concerns the whole set.
        object: id or place of the object in its image, as the file has it.
        remedy: what to do about it.
        part: of a pair of sets, training or validation.
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
        """Return the finding as plain values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class Loss:
    """An annotated object that does not train.

    Attributes:
        class_name: of its class, None where it is not known.
        reason: one of those above.
        image: the name of its image.
        count: of such objects.
    """

    class_name: str | None
    reason: str
    image: str | None
    count: int = 1


@dataclass
class Problems:
    """Collects what a reader finds. Readers call `error`, `warning` and `info` and go on.

    Attributes:
        strict: raise on errors, as training needs; else they are only collected.
        found: in the order of the file.
        losses: the objects that are left out.
    """

    strict: bool = True
    found: list[Finding] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def error(self, code: str, message: str, **where: Any) -> None:
        """Note a fault that keeps the set from being trained on.

        Args:
            where: image, object and remedy of the `Finding`.

        Raises:
            ValueError: the collection is strict.
        """
        finding = self._note("error", code, message, where)
        if self.strict:
            raise ValueError(f"{finding}; {finding.remedy}" if finding.remedy else str(finding))

    def warning(self, code: str, message: str, **where: Any) -> None:
        """Note something that is left out or changed."""
        self._note("warning", code, message, where)

    def dropped(
        self, message: object, class_name: str | None = None, reason: str = UNREAD, **where: Any
    ) -> None:
        """Note an object that is left out.

        Args:
            message: what is wrong with it.
            class_name: of its class.
            reason: of the `Loss`.
            where: image and object of the `Finding`.
        """
        remedy = "draw it anew or remove it; it is left out of training"
        self.warning("no-area", f"dropped: {message}", remedy=remedy, **where)
        self.losses.append(Loss(class_name, reason, where.get("image")))

    def info(self, code: str, message: str, **where: Any) -> None:
        """Note something worth knowing."""
        self._note("info", code, message, where)

    def log(self) -> None:
        """Log the warnings, one line a kind, with the first case of each."""
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
