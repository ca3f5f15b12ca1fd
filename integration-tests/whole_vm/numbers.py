"""Every integer that a command takes, at every edge of every width: the schema says where they are."""

from qemu.qmp import ExecuteError

from harness.cases import case
from harness.guests import small_guest

EDGES = sorted({sign * (2**bits + offset) for bits in (0, 7, 8, 15, 16, 31, 32, 53, 63, 64) for offset in (-1, 0, 1) for sign in (1, -1)})


class Schema:
    """What `query-qmp-schema` tells."""

    def __init__(self, entries):
        self.types = {entry["name"]: entry for entry in entries}
        self.commands = [entry for entry in entries if entry["meta-type"] == "command"]

    def least(self, name):
        """The least value of a type."""
        kind = self.types[name]
        match kind["meta-type"]:
            case "builtin":
                return {"string": "0", "int": 0, "number": 0, "boolean": False, "null": None}.get(kind["json-type"], 0)
            case "enum":
                return kind["members"][0]["name"] if "members" in kind else kind["values"][0]
            case "array":
                return []
            case "alternate":
                return self.least(kind["members"][0]["type"])
        return {m["name"]: self.least(m["type"]) for m in kind["members"] if "default" not in m}

    def integers(self):
        """Each command's arguments with one integer in it: (command, arguments, the integer's object and name)."""
        for command in self.commands:
            for path in self._paths(command["arg-type"], set()):
                arguments = holder = self.least(command["arg-type"])
                for name, kind in path[:-1]:
                    holder = holder.setdefault(name, self.least(kind))
                yield command["name"], arguments, holder, path[-1][0]

    def _paths(self, name, above):
        kind = self.types[name]
        if kind["meta-type"] != "object" or name in above:
            return
        for member in kind["members"]:
            step = (member["name"], member["type"])
            if self.types[member["type"]].get("json-type") in ("int", "number"):
                yield [step]
            for rest in self._paths(member["type"], above | {name}):
                yield [step, *rest]


@case(deadline=120)
async def every_integer_of_every_command_at_its_edges():
    async with small_guest("count") as vm:
        await vm.console.expect("00000003\n")
        tried = set()
        for command, arguments, holder, name in Schema(await vm.execute("query-qmp-schema")).integers():
            tried.add(f"{command} {name}")
            for edge in EDGES:
                holder[name] = edge
                try:
                    # An answer is all that is asked for: of many numbers some are possible.
                    await vm.execute(command, **arguments)
                except ExecuteError as error:
                    assert str(error), (command, arguments)
        print(f"numbers: {', '.join(sorted(tried))}")
        assert tried
        vm.console.skip()
        if await vm.status() != "running":
            await vm.execute("cont")
        await vm.console.expect(r"^[0-9a-f]{8}\n[0-9a-f]{8}\n")
        assert "panicked at" not in vm.stderr()
        await vm.execute("quit")
        assert await vm.exit_code() == 0
