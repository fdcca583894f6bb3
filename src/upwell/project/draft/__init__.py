"""From a look at a database to a project somebody can start from.

Pure: a ``Survey`` goes in, texts of files come out. Roles of columns (``roles``), ways between
tables (``paths``), what happens (``facts``) and by what to split it (``splits``) are read off
names, types and figures; ``proposal`` decides; ``model``, ``board`` and ``folder`` write.
"""

from upwell.project.draft.folder import files_of
from upwell.project.draft.proposal import Proposal, Wishes, propose

__all__ = ["Proposal", "Wishes", "files_of", "propose"]
