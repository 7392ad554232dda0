"use strict";
// Replaces the still picture of every curve by one with values under the pointer, zoom, and a
// logarithmic axis where the box is ticked.
{
  const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), font: "12px system-ui, sans-serif", ticks: { show: false } };

  function short(value) {
    if (value == null) return "";
    for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= size) return Number((value / size).toPrecision(4)) + letter;
    return String(Number(value.toPrecision(4)));
  }

  function last(values) {
    return values.findLast((value) => value != null);
  }

  function options(curve, log, width) {
    const range = curve.from_zero ? (plot, low, high) => [0, high > 0 ? 1.05 * high : 1] : undefined;
    const logRange = (plot, low, high) => (low > 0 ? [low / 1.1, high * 1.1] : [0.1, 1]);
    const firstDigit = (value) => Number(value.toExponential()[0]);
    const marked = (plot, ticks) => ticks.map((tick) => ([1, 2, 5].includes(firstDigit(tick)) ? tick : null));
    const lines = curve.lines.map((line) => ({
      label: line.name,
      stroke: colour(line.colour),
      width: line.faint ? 1 : 1.75,
      alpha: line.faint ? 0.4 : 1,
      spanGaps: true,
      pxAlign: 0,
      points: { show: line.values.filter((value) => value != null).length <= 20, size: 5, fill: colour(line.colour) },
      // Without a pointer over the curve the legend shows the last values.
      value: (plot, value, at, index) => short(index == null ? last(plot.data[at]) : value) || "–",
    }));
    const step = (plot, value, at, index) => (index == null ? last(plot.data[0]) : value).toLocaleString("en");
    return {
      width,
      height: Math.round(width / 1.75),
      padding: [8, 12, 0, 0],
      scales: { x: { time: false }, y: log ? { distr: 3, range: logRange } : { range } },
      axes: [
        { ...axis, grid: { show: false }, values: (plot, ticks) => ticks.map(short), space: 60, size: 28 },
        { ...axis, grid: { stroke: colour("--line"), width: 1 }, values: (plot, ticks) => ticks.map(short), size: 52,
          filter: log ? marked : undefined },
      ],
      series: [{ label: "step", value: step }, ...lines],
      cursor: { drag: { x: true, y: false }, points: { size: 7 } },
    };
  }

  function start(figure) {
    const curve = JSON.parse(figure.dataset.curve);
    const still = figure.querySelector(".static");
    const label = figure.querySelector("label");
    const box = label.querySelector("input");
    const place = document.createElement("div");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", still.querySelector("svg").getAttribute("aria-label"));
    const width = () => Math.min(544, figure.clientWidth);
    let plot;
    function draw() {
      plot?.destroy();
      const positive = (value) => (value > 0 ? value : null);
      const values = curve.lines.map((line) => (box.checked ? line.values.map(positive) : line.values));
      plot = new uPlot(options(curve, box.checked, width()), [curve.steps, ...values], place);
      figure.plot = plot;
    }
    box.checked = curve.log;
    still.hidden = true;
    label.hidden = !curve.lines.some((line) => line.values.some((value) => value > 0));
    still.after(place);
    draw();
    box.addEventListener("change", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(() => {
      if (width() && width() !== plot.width) plot.setSize({ width: width(), height: Math.round(width() / 1.75) });
    }).observe(figure);
  }

  document.querySelectorAll("figure.curve").forEach(start);
  document.querySelectorAll(".zoom").forEach((hint) => { hint.hidden = false; });
}
