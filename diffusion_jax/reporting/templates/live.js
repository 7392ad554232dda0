"use strict";
// Loads the page again when the run has written something, unless a curve is zoomed into.
{
  const zoomed = (figure) => {
    const { min, max } = figure.plot.scales.x;
    const steps = figure.plot.data[0];
    return min > steps[0] || max < steps.at(-1);
  };
  const { changed } = document.body.dataset;  // when the page was made
  setInterval(async () => {
    let now;
    try {
      now = await (await fetch("/changed")).text();
    } catch {
      return;  // the server has ended; the page stays as it is
    }
    if (now !== changed && ![...document.querySelectorAll("figure.curve")].some(zoomed)) location.reload();
  }, 2000);
}
