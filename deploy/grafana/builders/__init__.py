"""The dashboards, one in each module, and what they share: `board`, `panels`, `queries`, `annotations`."""
