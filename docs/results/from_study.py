"""Keep the page of a study beside the other results, with its pictures.

    python docs/results/from_study.py studies/mnist mnist

It writes `docs/results/mnist.md` and the folder `docs/results/mnist` from the study's `report.md`.
"""

import re
import shutil
import sys
from pathlib import Path

RESULTS = Path(__file__).parent
PICTURE = re.compile(r"!\[(?P<title>[^\]]*)\]\((?P<file>[^)]+\.png)\)")


def kept(study: Path, name: str) -> Path:
    """Copy the report of a study and its pictures, and return the page."""
    pictures = RESULTS / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    report = (study / "report.md").read_text(encoding="utf-8")

    def copied(match: re.Match[str]) -> str:
        target = pictures / match["file"].replace("/", "-")
        shutil.copyfile(study / match["file"], target)
        return f"![{match['title']}]({name}/{target.name})"

    page = RESULTS / f"{name}.md"
    text = PICTURE.sub(copied, report)
    introduction = f"{name}-about.md"
    if (RESULTS / introduction).exists():
        head, _, rest = text.partition("\n\n")
        text = f"{head}\n\n{(RESULTS / introduction).read_text(encoding='utf-8').strip()}\n\n{rest}"
    page.write_text(text, encoding="utf-8")
    return page


if __name__ == "__main__":
    print(kept(Path(sys.argv[1]), sys.argv[2]))
