"use strict";
const PAPER = { width: 680, height: 860 }; // pixels that fit a printed page
const narrow = window.matchMedia("(max-width: 600px)");
const plots = [...document.querySelectorAll(".plot")].map((holder) => {
  const figure = JSON.parse(holder.nextElementSibling.textContent);
  if (narrow.matches && figure.layout.meta) figure.layout.yaxis.ticktext = figure.layout.meta.narrow;
  figure.layout.hoverlabel = { bgcolor: "#2a323b", bordercolor: "#2a323b", font: { color: "#ffffff" }, align: "left" };
  Plotly.newPlot(holder, figure.data, figure.layout, { displayModeBar: false, responsive: true });
  return { holder, height: figure.layout.height };
});
const print = ({ holder, height }) => Plotly.relayout(holder, { width: PAPER.width, height: Math.min(height, PAPER.height) });
const show = ({ holder, height }) => Plotly.relayout(holder, { width: null, height, autosize: true });
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  plots.forEach(print);
});
window.addEventListener("afterprint", () => plots.forEach(show));
