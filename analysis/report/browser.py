"""Pictures of the page by a headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ..runs import AnalysisError

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SHOTS = (
    ("report-wide", 1280, 1500, False, ""),
    ("report-narrow", 390, 1300, False, ""),
    ("report-dark", 1280, 1000, True, ""),
    ("report-items", 1280, 900, False, "items"),
    ("report-narrow-dark", 390, 1100, True, "items"),
)


def browser() -> str | None:
    """The path of a Chromium on this machine, if there is one."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def browse(page_file: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a headless Chromium with a profile of its own, asking the network nothing.

    AnalysisError where there is no Chromium.
    """
    program = browser()
    if program is None:
        raise AnalysisError("--screenshots: no Chromium found; install one, or leave this out")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--virtual-time-budget=3000",
            f"--user-data-dir={profile}",
            *flags,
            page_file.resolve().as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def screenshots(page_file: Path, out: Path) -> list[Path]:
    """Picture a page at two widths, light and dark; the paths of the PNG files."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, width, height, dark, section in _SHOTS:
        file = (out / f"{name}.png").resolve()
        flags = [f"--screenshot={file}", f"--window-size={width},{height}"]
        # Blink's own enumeration: 0 is dark, 1 is light.
        flags.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
        with tempfile.TemporaryDirectory() as folder:
            shown = page_file
            if section:  # a headless browser pictures the top of a page, so the rest is hidden
                hidden = f"<style>header, section:not(#{section}) {{ display: none; }}</style>"
                shown = Path(folder) / "page.html"
                text = page_file.read_text(encoding="utf-8")
                shown.write_text(text.replace("</head>", hidden + "</head>", 1), encoding="utf-8")
            browse(shown, *flags)
        _shrink(file)
        written.append(out / file.name)
    return written


def _shrink(file: Path) -> None:
    """Keep 255 colours of a picture: enough for text and lines, a third of the bytes."""
    from PIL import Image

    with Image.open(file) as image:
        small = image.convert("RGB").quantize(255, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
