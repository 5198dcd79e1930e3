// The slider of an explorer: figure and sentence of each state were made when the lesson ran.
for (const explorer of document.querySelectorAll(".explorer")) {
  const states = JSON.parse(explorer.querySelector("script").textContent);
  const [label, slider, value, figure, sentence] = ["label", "input", "output", "img", "p"].map(
    (name) => explorer.querySelector(name)
  );
  const show = () => {
    const state = states[slider.value];
    figure.src = `data:image/webp;base64,${state.image}`;
    figure.alt = sentence.textContent = state.text;
    value.textContent = state.value;
    slider.setAttribute("aria-valuetext", state.value);
  };
  slider.addEventListener("input", show);
  show(); // a browser may remember where the slider was
  label.hidden = false; // without this script it stays a plain figure
}
