// Group advantages: from a group's rewards to what pushes each token of each answer, by scale and by length rule.
import { announcer, assign, dropdown, follow, frame, h, lifetime, radios } from "./common.js";
import { deviation, divisors, groupAdvantages, mean, tokenWeights } from "./policy.js";

const STATE = ["rewards", "group", "scale_rewards", "normalization", "max_tokens"];
const SCALES = [["group", "group: ÷ its deviation"], ["batch", "batch: ÷ everyone’s"], ["none", "none (Dr. GRPO)"]];
const RULES = { sequence: "sequence: 1 ÷ its tokens", tokens: "tokens, all alike (DAPO)", constant: "constant (Dr. GRPO)" };
const WHY = {
  group: "Dividing by the deviation makes a rare success worth more, and a rare failure too.",
  batch: "All questions are divided by the same number.",
  none: "Nothing is divided: no question is blown up because its answers nearly agree.",
};

const minus = (text) => text.replace("-", "−");
const two = (x) => minus((Math.abs(x) < 0.005 ? 0 : x).toFixed(2));
const signed = (x) => (x >= 0.005 ? `+${two(x)}` : two(x));
const brief = (x) => minus(String(Number(x.toPrecision(3))));
const level = (rewards) => Math.max(...rewards) === Math.min(...rewards); // the same for all: advantage 0
const markOf = (reward) => (reward === 1 ? "✓" : reward === 0 ? "✗" : two(reward));
const binary = (rows) => rows.flat().every((x) => x === 0 || x === 1);

function render({ model, el }) {
  const life = lifetime();
  const groups = model.get("groups");
  const size = groups[0].answers.length;
  const ticks = binary(groups.map((group) => group.answers.map((answer) => answer.reward)));
  const root = frame(el, "group", "What an answer is worth to its group", "No critic: an answer is compared with the others to the same question. Change the rewards and see who is pushed, and how hard.");
  const assignRewards = (row) => assign(model, "rewards", model.get("rewards").map((old, i) => (i === model.get("group") - 1 ? row : old)));
  const controls = makeControls(model, groups, assignRewards);
  const board = h("div", { class: "ga-board" });
  const rows = Array.from({ length: size }, (_, i) => makeRow(i, ticks, (reward) => {
    assignRewards(model.get("rewards")[model.get("group") - 1].map((old, j) => (j === i ? reward : old)));
  }));
  const heads = ["answer", "tokens", "advantage", "weight of a token", "push on each token"].map((text) => h("th", { scope: "col" }, text));
  const table = h("table", { class: "ga-table" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map((row) => row.node)));
  const unit = h("p", { class: "dsw-note" });
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  const others = h("div", { class: "ga-others" });
  const full = h("details", { class: "ga-full" }, h("summary", {}, "The answers in full"), h("ol"));
  root.append(controls.node, board, table, unit, said.node, others);
  if (groups.some((group) => group.answers.some((answer) => answer.text))) root.append(full);

  follow(life, model, STATE, () => {
    const now = reckon(model, groups);
    controls.show(now);
    board.replaceChildren(...drawBoard(now));
    const [most, hardest] = [now.advantages, now.pushes].map((all) => Math.max(1e-9, ...all.flat().map(Math.abs)));
    const longest = Math.max(...groups.flatMap((group) => group.answers.map((answer) => answer.tokens)));
    const { answers } = groups[now.at];
    rows.forEach((row, i) => row.show(answers[i], now.rewards[i], ...[now.advantages, now.weights, now.pushes].map((all) => all[now.at][i]), { most, hardest, longest }));
    unit.textContent = `A weight of 1 is an even share: 1 / ${now.total.toLocaleString("en-GB")}, the tokens of all ${groups.length * size} answers. Push = advantage × weight.`;
    others.replaceChildren(...drawOthers(now, groups));
    full.querySelector("ol").replaceChildren(...answers.map((answer, i) => h("li", {}, h("span", { class: "ga-verdict" }, markOf(now.rewards[i])), answer.text || "")));
    said.say(sentence(now, answers));
  });
  return () => life.end();
}

/** All numbers of the moment. Weights and pushes are in shares of 1 / tokens of the batch. */
function reckon(model, groups) {
  const all = model.get("rewards");
  const [at, scale, rule, most] = [model.get("group") - 1, model.get("scale_rewards"), model.get("normalization"), model.get("max_tokens")];
  const size = all[0].length;
  const lengths = groups.flatMap((group) => group.answers.map((answer) => answer.tokens));
  const total = lengths.reduce((sum, n) => sum + n, 0);
  const flat = tokenWeights(lengths, rule, most).map((weight) => weight * total);
  const weights = groups.map((_, i) => flat.slice(i * size, (i + 1) * size));
  const advantages = groupAdvantages(all, scale);
  const pushes = advantages.map((row, i) => row.map((advantage, j) => advantage * weights[i][j]));
  return { all, at, scale, rule, most, size, total, weights, advantages, pushes, rewards: all[at], divisor: divisors(all, scale)[at] };
}

// ---- controls -----------------------------------------------------------------------------------------------------------

function makeControls(model, groups, assignRewards) {
  const size = groups[0].answers.length;
  const pick = dropdown("Question", groups.map((group, i) => [i + 1, group.prompt]), (n) => assign(model, "group", Number(n)));
  const scale = radios("Scale of the advantages", SCALES, (name) => assign(model, "scale_rewards", name));
  const rule = radios("Weight of a token", Object.entries(RULES), (name) => assign(model, "normalization", name));
  const first = (count) => Array.from({ length: size }, (_, i) => (i < count ? 1 : 0));
  const own = () => groups[model.get("group") - 1].answers.map((answer) => answer.reward);
  const counts = { "none right": 0, "one right": 1, "half right": Math.floor(size / 2), "all right": size };
  const settings = [["as drawn", own], ...Object.entries(counts).map(([text, count]) => [text, () => first(count)])];
  const chips = settings.map(([text, make]) => h("button", { type: "button", class: "dsw-chip", onclick: () => assignRewards(make()) }, text));
  const one = h("div", { class: "dsw-field" }, h("span", { class: "dsw-label" }, "Question"), h("span", { class: "ga-prompt" }, groups[0].prompt)); // nothing to choose
  const rewards = h("div", { class: "dsw-field", role: "group", "aria-label": "Rewards" }, h("span", { class: "dsw-label" }, "Rewards"), h("div", { class: "dsw-chips" }, chips));
  const node = h("div", { class: "dsw-controls" }, groups.length > 1 ? pick.node : one, rewards, h("div", { class: "dsw-span" }, scale.node), h("div", { class: "dsw-span" }, rule.node));
  const show = (now) => {
    pick.control.value = now.at + 1;
    scale.show(now.scale);
    rule.show(now.rule);
  };
  return { node, show };
}

// ---- one answer -----------------------------------------------------------------------------------------------------------

/** A row that stays, so that the control in it keeps the focus. */
function makeRow(i, ticks, onreward) {
  const hidden = (text) => h("span", { class: "dsw-sr" }, text);
  const control = ticks
    ? h("input", { type: "checkbox", onchange: () => onreward(control.checked ? 1 : 0) })
    : h("input", { type: "number", step: "any", onchange: () => control.value !== "" && onreward(Number(control.value)) });
  const mark = h("span", { class: "ga-mark", "aria-hidden": "true" });
  const label = h("label", { class: "ga-answer" }, h("span", { class: "ga-name" }, hidden(ticks ? "answer " : "reward of answer "), String(i + 1), ticks && hidden(" is right")), control, mark);
  const [tokens, weight] = [h("td", { class: "ga-tokens" }), h("td")];
  const [advantage, push] = [bar(), bar()];
  const node = h("tr", {}, h("th", { scope: "row" }, label), tokens, advantage.node, weight, push.node);
  const show = (answer, reward, value, share, force, { most, hardest, longest }) => {
    if (ticks) control.checked = reward > 0;
    else if (document.activeElement !== control || Number(control.value) !== reward) control.value = reward;
    mark.textContent = ticks ? markOf(reward) : "";
    node.classList.toggle("ga-right", ticks && reward > 0);
    tokens.textContent = String(answer.tokens);
    tokens.style.setProperty("--at", answer.tokens / longest);
    weight.textContent = two(share);
    advantage.show(value, most);
    push.show(force, hardest);
  };
  return { node, show };
}

/** A number with a bar that goes right where it pushes up and left where it pushes down. */
function bar() {
  const piece = h("span");
  const number = h("span", { class: "ga-number" });
  const node = h("td", {}, h("div", { class: "ga-cell" }, h("span", { class: "ga-track", "aria-hidden": "true" }, piece), number));
  const show = (value, most) => {
    piece.className = value < 0 ? "ga-down" : "ga-up";
    piece.style.setProperty("--at", Math.abs(value) / most);
    number.textContent = signed(value);
  };
  return { node, show };
}

// ---- the group and the others -----------------------------------------------------------------------------------------------

function drawBoard({ rewards, scale, divisor, advantages, at }) {
  const cell = (value, text) => h("div", { class: "ga-count" }, h("strong", {}, value), h("span", {}, text));
  const best = Math.max(...advantages[at]);
  const by = { group: "divided by: deviation + 0.0001", batch: "divided by: everyone’s deviation + 0.0001", none: "divided by: nothing" }[scale];
  return [cell(two(mean(rewards)), "mean reward, the baseline"), cell(two(deviation(rewards)), "standard deviation"),
    cell(scale === "none" ? "1" : brief(divisor), by), cell(signed(best), "advantage of the best")];
}

function drawOthers({ all, advantages, at }, groups) {
  const heads = ["every question", "mean", "deviation", "largest advantage"].map((text) => h("th", { scope: "col" }, text));
  const rows = groups.map((group, i) => h("tr", { class: i === at ? "ga-shown" : "" }, h("th", { scope: "row" }, group.prompt),
    h("td", {}, two(mean(all[i]))), h("td", {}, two(deviation(all[i]))), h("td", {}, level(all[i]) ? "0: no gradient" : two(Math.max(...advantages[i].map(Math.abs))))));
  return groups.length > 1 ? [h("table", { class: "ga-list" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))] : [];
}

function sentence(now, answers) {
  const { rewards, advantages, at, all, scale, size } = now;
  if (level(rewards)) {
    const silent = all.filter(level).length;
    const rest = all.length > 1 ? ` That holds for ${silent} of the ${all.length} questions.` : "";
    return `All ${size} answers have the same reward: each advantage is 0, and this question teaches nothing, right or wrong.${rest}`;
  }
  const [best, worst] = [Math.max(...rewards), Math.min(...rewards)];
  const ahead = rewards.filter((x) => x === best).length;
  const worth = `${ahead} of ${size} answers ${ahead === 1 ? "is" : "are"} ${binary(all) ? "right" : "best"}: advantage ${signed(advantages[at][rewards.indexOf(best)])}, against ${signed(advantages[at][rewards.indexOf(worst)])}.`;
  return `${worth} ${WHY[scale]} ${lengthSentence(now, answers, worst)}`;
}

/** The shortest and the longest of the worst answers: what each of their tokens gets. */
function lengthSentence({ rewards, rule, pushes, at }, answers, worst) {
  const wrong = [...answers.keys()].filter((i) => rewards[i] === worst).sort((a, b) => answers[a].tokens - answers[b].tokens);
  const [short, long] = [wrong[0], wrong.at(-1)];
  if (answers[short].tokens === answers[long].tokens) return "";
  const names = `answer ${short + 1} (${answers[short].tokens} tokens) and answer ${long + 1} (${answers[long].tokens})`;
  const times = brief(pushes[at][short] / pushes[at][long]);
  if (rule === "sequence") return `Both ${names} are ${worst === 0 ? "wrong" : "worst"}, but a token of the short one is pushed ${times} times as hard: being wrong at length costs less per token.`;
  return `Each token of ${names} is pushed alike, so the longer one weighs more in all.`;
}

export default { render };
