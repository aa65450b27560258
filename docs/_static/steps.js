// The picture that moves on the front page: it plays the steps stored in it.
function play(figure) {
  const steps = JSON.parse(figure.dataset.steps);
  const text = figure.querySelector(".steps-text");
  const rows = [...figure.querySelectorAll("tr")];
  const button = figure.appendChild(document.createElement("button"));
  let [at, timer] = [steps.length - 1, 0];

  function show() {
    const { text: said, guesses } = steps[at];
    text.textContent = said;
    guesses.forEach(([token, percent], i) => {
      const [name, bar, share] = rows[i].children;
      name.textContent = JSON.stringify(token).slice(1, -1);
      bar.firstChild.style.width = `${percent}%`;
      share.textContent = `${percent} %`;
    });
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  }

  function step() {
    at += 1;
    show();
    if (at === steps.length - 1) stop();
  }

  function start() {
    if (at === steps.length - 1) at = -1;
    button.textContent = "Pause";
    step();
    timer = setInterval(step, 700);
  }

  button.addEventListener("click", () => (timer ? stop() : start()));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) stop();
  else start();
  show();
}

addEventListener("DOMContentLoaded", () => document.querySelectorAll(".steps").forEach(play));
