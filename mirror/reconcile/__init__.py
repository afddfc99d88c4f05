"""One pass: observe, plan, execute, report. Begin to read in `controller.py`; `state.py` holds the plan as a value."""
