"""Two extensions: the kernel, Cython over csrc/ against libjpeg-turbo, and libpq's calls.

The rest is in pyproject.toml.

FASTLOADER_SANITIZE=1 compiles them with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
import tempfile
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MISSING = """
fastloader needs the headers of libjpeg-turbo, and the compiler found no usable <{header}>:

  {error}

Install them and try again:
  Debian, Ubuntu   apt-get install libjpeg-dev        (libjpeg62-turbo-dev, libjpeg-turbo8-dev)
  Fedora           dnf install libjpeg-turbo-devel
  Homebrew         brew install jpeg-turbo            (and add its prefix to CPATH, LIBRARY_PATH)
"""

# JCS_EXT_RGBX is libjpeg-turbo's own: the check refuses the other libjpegs in words.
PROBE = """
#include <stddef.h>
#include <stdio.h>
#include <jpeglib.h>
int main(void) { return JCS_EXT_RGBX == 0; }
"""

KERNEL = "fastloader._kernel"
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
sanitize = os.environ.get("FASTLOADER_SANITIZE", "0") not in ("", "0")


class BuildKernel(build_ext):
    def build_extensions(self):
        self.check_header()
        super().build_extensions()

    def check_header(self):
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(PROBE)
            try:
                self.compiler.compile([str(probe)], output_dir=folder)
            except Exception as error:
                raise SystemExit(MISSING.format(header="jpeglib.h", error=error)) from None

    def build_extension(self, ext):
        if ext.name != KERNEL:
            super().build_extension(ext)
            return
        # The warnings are for our own C; what Cython generates is not held to them. So csrc/ is
        # compiled first and handed to the linker.
        objects = self.compiler.compile(
            sorted(glob("csrc/*.c")),
            output_dir=self.build_temp,
            extra_postargs=["-std=c11", *WARNINGS, *ext.extra_compile_args],
            depends=ext.depends,
        )
        ext.extra_objects = objects
        super().build_extension(ext)


flags = ["-fvisibility=hidden", *(["-O1", "-g", *SANITIZE] if sanitize else ["-O3"])]
link_flags = SANITIZE if sanitize else []
setup(
    ext_modules=cythonize(
        [
            Extension(
                KERNEL,
                ["fastloader/_kernel.pyx"],
                include_dirs=["csrc"],
                libraries=["jpeg", "m"],
                depends=sorted(glob("csrc/*.[ch]")),
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
            Extension(
                "fastloader.source._libpq",
                ["fastloader/source/_libpq.pyx"],
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
        ],
        build_dir="build/cython",
    ),
    cmdclass={"build_ext": BuildKernel},
)
