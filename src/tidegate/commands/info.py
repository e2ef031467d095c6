"""The command ``tidegate info``: what this machine and this installation can do."""

from __future__ import annotations

from tidegate.commands import terminal
from tidegate.commands.session import AsJson, Debug, session


def info(as_json: AsJson = False, debug: Debug = False) -> None:
    """Show versions, processor, instruction set and threads, and which backend computes what."""
    with session(debug=debug):
        from tidegate.environment import describe_environment

        environment = describe_environment()
        if as_json:
            terminal.print_json(environment.to_dict())
            return
        console = terminal.make_console()
        native = environment.native
        facts = {
            "platform": environment.platform,
            "processor": f"{environment.processor}, {environment.cores} cores for this process",
            "features": " ".join(environment.features) or "none of those that matter here",
            "instruction set": f"{native['isa']} (of {', '.join(native['available_isas'])})" if native else "none",
            "threads": str(native.get("threads", "unknown without torch")) if native else "none",
        }
        console.print(terminal.pair_table("machine", facts))
        console.print(terminal.pair_table("versions", environment.versions))
        if environment.backends:
            table = terminal.make_table("cell", "device", "type", "backend", "note")
            for row in environment.backends:
                table.add_row(*(terminal.make_cell(row[key]) for key in ("cell", "device", "dtype", "backend", "note")))
            console.print(table)
        for note in environment.notes:
            terminal.print_line(console, f"note: {note}")
