// Sets the chosen colours before anything is painted. "system" follows the device.
const chosen = localStorage.getItem("upwell-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
