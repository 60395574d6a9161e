"use strict";
// uPlot draws at the screen's resolution, which is too coarse in print: at least twice the screen's.
(function () {
  const real = window.devicePixelRatio || 1;
  try {
    Object.defineProperty(window, "devicePixelRatio", { configurable: true, value: Math.max(2, real) });
  } catch (error) {
    // A browser that refuses draws as it always does.
  }
})();
