"""Write mcti/registry/risks.json, the risks of the release dossier, from docs/security.md. Run: make docs."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent / "mcti" / "registry" / "risks.json"


def risks_json() -> str:
    """The threats of docs/security.md: goals of the attacker, defences with their tests, remaining risk."""
    page = (HERE / "security.md").read_text(encoding="utf-8")
    sections = (part.partition("\n") for part in re.split(r"^## ", page, flags=re.MULTILINE)[1:])
    risks = [_risk(title, body) for title, _, body in sections if "\nGoals: " in body]
    return json.dumps(risks, indent=1, ensure_ascii=False) + "\n"


def _risk(title: str, body: str) -> dict[str, object]:
    return {
        "hazard": title,
        "situation": _paragraph(body, "Goals: "),
        "controls": [_control(row) for row in re.findall(r"^\| (.*`tests/.*) \|$", body, flags=re.MULTILINE)],
        "kinds": len(re.findall(r"^\| [^|]+ \| [^|]+ \| (?:broken|unsigned|unknown) \|", body, flags=re.MULTILINE)),
        "residual": _paragraph(body, "Remaining risk: "),
    }


def _control(row: str) -> dict[str, object]:
    measure, _, tests = row.rpartition(" | ")
    return {"measure": _plain(measure), "tests": re.findall(r"`(tests/[^`]+)`", tests)}


def _paragraph(body: str, start: str) -> str:
    """The paragraph that begins with `start`, without it; "" when there is none."""
    paragraph = re.search(rf"^{start}(.+?)(?:\n\n|\Z)", body, flags=re.MULTILINE | re.DOTALL)
    return _plain(paragraph[1]) if paragraph else ""


def _plain(text: str) -> str:
    """Text without the marks of Markdown."""
    return " ".join(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text).replace("`", "").replace("*", "").split())


if __name__ == "__main__":
    TARGET.write_text(risks_json(), encoding="utf-8")
