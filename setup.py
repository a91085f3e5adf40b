"""Build the extensions: the kernel (Cython, csrc/, codecs), and calls of libpq, SQLite and Linux.

Everything else about the package is in pyproject.toml. FASTLOADER_SANITIZE=1 compiles the
extensions with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

import os
import re
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MISSING = """
fastloader needs the headers of {library}, and the compiler found no usable <{header}>:

  {error}

Install the headers of all four libraries and try again:
  Debian, Ubuntu   apt-get install libjpeg-dev libwebp-dev libisal-dev libsqlite3-dev
  Fedora           dnf install libjpeg-turbo-devel libwebp-devel isa-l-devel sqlite-devel
  Homebrew         brew install jpeg-turbo webp isa-l sqlite
                   (and add its prefix to CPATH, LIBRARY_PATH)
"""

# What each library is linked as, and what has to compile. Only libjpeg-turbo has JCS_EXT_RGBX, so
# any other libjpeg is refused with an explanation instead of a compiler error.
LIBRARIES = {
    "jpeg": ("libjpeg-turbo", "jpeglib.h", "JCS_EXT_RGBX"),
    "webp": ("libwebp", "webp/decode.h", "VP8_STATUS_OK"),
    "isal": ("ISA-L", "isa-l.h", "ISAL_DECOMP_OK"),
}
SQLITE = {"sqlite3": ("SQLite", "sqlite3.h", "SQLITE_ROW")}
PROBE = """
#include <stddef.h>
#include <stdio.h>
#include <{header}>
int main(void) {{ return (int){name}; }}
"""

KERNEL = "fastloader.fields._kernel"
VERSION = re.search(r'"(.*)"', Path("fastloader/_version.py").read_text())[1]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
sanitize = os.environ.get("FASTLOADER_SANITIZE", "0") not in ("", "0")


class BuildKernel(build_ext):
    """Check for the headers, then compile on all cores.

    The extensions are compiled at once, and so are the files of csrc/, with more warnings than
    the C that Cython generates.
    """

    def finalize_options(self):
        """Use all cores, unless the command line says how many."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count() or 1

    def build_extensions(self):
        """Build all extensions, if the headers are there."""
        self.check_headers()
        super().build_extensions()

    def check_headers(self):
        """Exit with instructions if a library has no usable headers."""
        with tempfile.TemporaryDirectory() as folder:
            for library, header, name in (LIBRARIES | SQLITE).values():
                probe = Path(folder, "probe.c")
                probe.write_text(PROBE.format(header=header, name=name))
                try:
                    self.compiler.compile([str(probe)], output_dir=folder)
                except Exception as error:
                    message = MISSING.format(library=library, header=header, error=error)
                    raise SystemExit(message) from None

    def build_extension(self, ext):
        """Build one extension, the kernel with csrc/."""
        if ext.name != KERNEL:
            super().build_extension(ext)
            return

        # The warnings are for our own C, not for what Cython generates. So csrc/ is compiled first,
        # and its objects are passed to the linker.
        def compiled(source):
            (made,) = self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                extra_postargs=["-std=c11", *WARNINGS, *ext.extra_compile_args],
                depends=ext.depends,
            )
            return made

        with ThreadPoolExecutor(self.parallel) as pool:
            ext.extra_objects = [*pool.map(compiled, sorted(glob("csrc/*.c")))]
        super().build_extension(ext)


# Python's stable ABI has included buffers since 3.11, so one wheel serves all later versions, at a
# cost of 0.15 us for each call. Free-threaded Pythons do not have a stable ABI yet.
stable = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")
macros = [("FASTLOADER_VERSION", f'"{VERSION}"')]
if stable:
    macros += [("CYTHON_LIMITED_API", "1"), ("Py_LIMITED_API", "0x030B0000")]

flags = ["-fvisibility=hidden", *(["-O1", "-g", *SANITIZE] if sanitize else ["-O3"])]
link_flags = SANITIZE if sanitize else []
setup(
    ext_modules=cythonize(
        [
            Extension(
                KERNEL,
                ["fastloader/fields/_kernel.pyx"],
                include_dirs=["csrc"],
                define_macros=macros,
                py_limited_api=stable,
                libraries=[*LIBRARIES, "m"],
                depends=sorted(glob("csrc/*.[ch]")),
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
            Extension(
                "fastloader.source.postgres._libpq",
                ["fastloader/source/postgres/_libpq.pyx"],
                define_macros=macros,
                py_limited_api=stable,
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
            Extension(
                "fastloader.source._files",
                ["fastloader/source/_files.pyx"],
                define_macros=macros,
                py_limited_api=stable,
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
            Extension(
                "fastloader.source.sqlite._sqlite",
                ["fastloader/source/sqlite/_sqlite.pyx"],
                define_macros=macros,
                py_limited_api=stable,
                # Only used where Python's own SQLite cannot be reached.
                libraries=[*SQLITE],
                extra_compile_args=flags,
                extra_link_args=link_flags,
            ),
        ],
        build_dir="build/cython",
    ),
    cmdclass={"build_ext": BuildKernel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable else {},
)
