"""A download of many files as a machine: what is wanted, what is recorded, and what is to be done next."""

from foundry_proto.transfer.actions import Action, Ended, Fetch, Prepare, Range, SaveRecord, Verify, Wait
from foundry_proto.transfer.machine import Transfer
from foundry_proto.transfer.plan import BadPlan, Plan, WantedFile

__all__ = [
    "Action",
    "BadPlan",
    "Ended",
    "Fetch",
    "Plan",
    "Prepare",
    "Range",
    "SaveRecord",
    "Transfer",
    "Verify",
    "Wait",
    "WantedFile",
]
