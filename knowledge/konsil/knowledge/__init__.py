"""knowledge: what one hospital can learn and hand on, as pure functions over named tensors.

A hospital brings a `Task`; this floor trains it, measures it and mixes models. Importing the
package does not import torch, so that an auditor can replay a mix (`konsil.knowledge.mixing`)
without it.
"""

from konsil.knowledge.task import Rows as Rows
from konsil.knowledge.task import Task as Task
from konsil.knowledge.task import TaskConfig as TaskConfig
