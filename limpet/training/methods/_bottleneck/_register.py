"""Making peft know a method that it did not come with."""

from __future__ import annotations

from typing import Any

__all__ = ["KIND", "add_peft_type", "register"]

KIND = "BOTTLENECK"


def add_peft_type() -> Any:
    """Return peft's enumeration member `BOTTLENECK`, adding it the first time.

    `register_peft_method` takes only names that stand in `PeftType`, and an enumeration can't be subclassed once it
    has members; so the member is added as the enumeration's own machinery would have done.
    """
    from peft.utils.peft_types import PeftType

    if KIND not in PeftType.__members__:
        member = str.__new__(PeftType, KIND)
        member._name_ = KIND
        member._value_ = KIND
        member.__objclass__ = PeftType
        member._sort_order_ = len(PeftType.__members__)
        PeftType._member_names_.append(KIND)
        PeftType._member_map_[KIND] = member
        PeftType._value2member_map_[KIND] = member
        # the enumeration refuses attributes of a member's name, its class does not
        type.__setattr__(PeftType, KIND, member)
    return PeftType(KIND)


def register(config_class: type, model_class: type) -> None:
    """Register the method with peft, once."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import register_peft_method

    if add_peft_type() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=KIND.lower(), config_cls=config_class, model_cls=model_class)
