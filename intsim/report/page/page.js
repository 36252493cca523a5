"use strict";
const PAPER = 680; // pixels that fit a printed page
const narrow = window.matchMedia("(max-width: 600px)");
const plots = [...document.querySelectorAll(".plot")].map((holder) => {
  const figure = JSON.parse(holder.nextElementSibling.textContent);
  if (narrow.matches && figure.layout.meta) figure.layout.yaxis.ticktext = figure.layout.meta.narrow;
  figure.layout.hoverlabel = { bgcolor: "#2a323b", bordercolor: "#2a323b", font: { color: "#ffffff" }, align: "left" };
  Plotly.newPlot(holder, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  return holder;
});
const fit = (width) => plots.forEach((holder) => Plotly.relayout(holder, width ? { width } : { width: null, autosize: true }));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  fit(PAPER);
});
window.addEventListener("afterprint", () => fit(null));
