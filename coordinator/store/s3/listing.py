"""Whether a listing goes on. S3 alone says so: a page without a single key need not be the last."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.errors import StoreUnavailable


def goes_on(page: Mapping[str, object], marker: str, address: str) -> bool:
    """Whether there are pages after this one; `marker` names the field that says from where.

    Raises:
        StoreUnavailable: there are, but the page does not say from where.
    """
    if page.get(marker):
        return True
    if page.get("IsTruncated"):
        raise StoreUnavailable(
            f"The listing of {address} broke off: S3 says that there is more, but not from where. "
            "Try again."
        )
    return False
