"""Write the Python language reference as PDF files, one for each topic: real documents that every CPython has.

The same interpreter writes the same bytes every time, so the first URI of the demo is the same in every run.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics

from fpdf import FPDF

CREATED = datetime(2026, 1, 1, tzinfo=UTC)  # constant, because it is in the bytes
LINE_HEIGHT = 4  # mm
FONT_SIZE = 9  # points: 80 columns of Courier, the width pydoc wraps at, fit a line of A4

# The fonts that every PDF reader has cover only Latin-1; pydoc also uses these quotes, dashes and dots.
TYPOGRAPHY = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2026": "..."}
)


def write_pdf(title: str, text: str, path: Path) -> int:
    """Write text to a PDF file at path and return its number of pages."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(CREATED)
    pdf.set_title(title)
    pdf.set_font("Courier", size=FONT_SIZE)
    pdf.add_page()
    pdf.multi_cell(0, LINE_HEIGHT, text.translate(TYPOGRAPHY).encode("latin-1", "replace").decode("latin-1"))
    pdf.output(str(path))
    return int(pdf.page_no())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the PDF files go")
    parser.add_argument("--revise", nargs=2, metavar=("TOPIC", "TEXT"), help="write only this topic, with more text")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.revise:
        topic, more = arguments.revise
        texts = {topic: f"{topics[topic]}\n{more}\n"}
    else:
        texts = dict(sorted(topics.items()))
    pages = sum(write_pdf(title, text, folder / f"{title}.pdf") for title, text in texts.items())
    print(f"{len(texts)} document{'s' if len(texts) != 1 else ''}, {pages} pages")


if __name__ == "__main__":
    main()
