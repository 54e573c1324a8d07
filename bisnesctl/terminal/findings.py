"""Shows findings about wa-js: missing functions by name, the others as a number."""

from typing import Any

from bisnesctl.terminal import output


def show(title: str, findings: list[dict[str, Any]]) -> None:
    """Prints findings. Each has a `name`, `ok` and a `detail`."""
    out = output.out()
    for each in findings:
        if not each["ok"]:
            detail = f": {each['detail']}" if each["detail"] else ""
            out.print(f"[red]✗[/] {output.escape(each['name'] + detail)}", soft_wrap=True)
    ok = sum(each["ok"] for each in findings)
    colour = "green" if ok == len(findings) else "red"
    out.print(
        f"[{colour}]{ok} of {len(findings)}[/] required functions are present: {output.escape(title)}", soft_wrap=True
    )
