"""The picture of launch.benchmark_length."""

from pathlib import Path


def plot_lengths(records: list[dict], title: str, path: Path) -> None:
    """Draw times over length on logarithmic axes; solid is forward, dashed the gradient.

    Args:
      records: 'length', 'mixer', 'run' and 'milliseconds' (None where a program did not fit).
      path: of the PNG.
    """
    from matplotlib.figure import Figure  # imported here: it takes a second

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    fitting = [record for record in records if record["milliseconds"]]
    mixers = list(dict.fromkeys(record["mixer"] for record in fitting))
    for mixer, label in dict.fromkeys((record["mixer"], record["run"]) for record in fitting):
        own = [r for r in fitting if (r["mixer"], r["run"]) == (mixer, label)]
        axes.plot(
            [record["length"] for record in own],
            [record["milliseconds"]["median"] for record in own],
            "-" if label == "forward" else "--",
            color=f"C{mixers.index(mixer)}",
            marker="o",
            ms=3,
            label=f"{mixer}, {label}",
        )
    axes.set(xlabel="length L", ylabel="ms per example", yscale="log")
    axes.set_xscale("log", base=2)
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130, format="png")
