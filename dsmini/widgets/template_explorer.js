// The template explorer: a conversation as the text that a model reads, each character marked with who said it. The
// texts are Python's, made by dsmini.language.chat: here they are looked up and coloured, never written.
import { announcer, field, follow, frame, grouped, h, lifetime, radios } from "./common.js";

// The reader's choices, in the order of a case's key, which has one character for each. What a choice leaves possible
// is what begins with it.
const CHOICES = ["thinking", "effort", "turns", "tools", "keep_thoughts", "add_generation_prompt"];
const STATE = ["family", ...CHOICES, "question"];
const FAMILIES = { "deepseek-v3": "DeepSeek-V3", "deepseek-r1": "DeepSeek-R1", qwen3: "Qwen3", "gpt-oss": "gpt-oss", "deepseek-v3.1": "DeepSeek-V3.1", "deepseek-v3.2": "DeepSeek-V3.2" };
const ROLES = ["template", "system", "user", "thought", "answer", "definition", "call", "result"];
const NAMES = { template: "the template", system: "system", user: "user", thought: "thought", answer: "answer", definition: "tool description", call: "tool call", result: "tool result", special: "special token" };
const SIGNS = { "\n": "te-end", "｜": "te-bar" }; // a new line shows itself; not every font has the wide bar
const LONGEST = 120; // characters of the reader's question

const codeOf = (name, value) => (name === "effort" ? value[0] : String(Number(value)));

function render({ model, el }) {
  const life = lifetime();
  const { pieces, runs, notes, cases, unseen, date } = model.get("table");
  const root = frame(el, "template", "What the model reads", "A conversation, as each family’s template writes it. Change the family, the mode and the history, and see which characters change.");
  const pick = (name) => (value) => {
    const now = settle({ ...read(model), [name]: value }, cases);
    for (const choice of STATE) model.set(choice, now[choice]);
    model.save_changes();
  };
  const controls = makeControls(cases, pick);
  const said = announcer(life, { class: "dsw-live dsw-verdict" });
  const call = h("code", { class: "te-call" });
  const legend = h("ul", { class: "te-legend", "aria-label": "Who wrote how many characters" });
  const text = h("div", { class: "te-text", role: "group", "aria-label": "The text, character for character" });
  root.append(controls.node, said.node, h("div", { class: "te-head" }, call), h("p", { class: "dsw-label" }, "Who wrote how many characters"), legend, text);

  follow(life, model, STATE, () => {
    const now = settle(read(model), cases);
    const [note, ...own] = cases[now.family][keyOf(now, cases)];
    const released = own.flatMap((run) => runs[run].map((i) => pieces[i]));
    const special = specialOf(cases[now.family], runs, pieces, unseen[now.family]);
    const shown = withQuestion(released, now, special);
    controls.show(now, released[lastQuestion(released)][0], special.at(-1));
    call.textContent = callOf(now, date);
    text.replaceChildren(...draw(shown));
    legend.replaceChildren(...count(shown));
    const all = shown.map(([part]) => part).join("");
    said.say(`${notes[note]} ${grouped(shown.filter(([, , special]) => special).length)} special tokens, ${grouped([...all].length)} characters.`);
  });
  return () => life.end();
}

// ---- which text -----------------------------------------------------------------------------------------------------------

const read = (model) => Object.fromEntries(STATE.map((name) => [name, model.get(name)]));

/** The choices up to `upto` of them as the beginning of a key. A family without efforts has "-" in their place. */
function keyOf(now, cases, upto = CHOICES.length) {
  let key = "";
  for (const name of CHOICES.slice(0, upto)) {
    const none = name === "effort" && begins(now.family, cases, `${key}-`);
    key += none ? "-" : codeOf(name, now[name]);
  }
  return key;
}

const begins = (family, cases, start) => Object.keys(cases[family]).some((key) => key.startsWith(start));

/** Whether a choice is possible after those before it. */
function can(now, cases, name, value) {
  return begins(now.family, cases, keyOf(now, cases, CHOICES.indexOf(name)) + codeOf(name, value));
}

/** The choices, each that is impossible turned into its opposite. */
function settle(now, cases) {
  const next = { ...now };
  for (const name of ["thinking", "tools", "keep_thoughts"]) if (!can(next, cases, name, next[name])) next[name] = !next[name];
  return next;
}

const isAsked = ({ add_generation_prompt: speaks, tools, turns }) => speaks && !(tools && turns === 1);

/** Every special string of a family: those in its texts, and the rest. The longest first, for the split. */
function specialOf(own, runs, pieces, unseen = []) {
  const found = new Set(unseen);
  for (const [, ...parts] of Object.values(own)) for (const run of parts) for (const i of runs[run]) if (pieces[i][2]) found.add(pieces[i][0]);
  return [...found].sort((a, b) => b.length - a.length);
}

const lastQuestion = (shown) => shown.map(([, role]) => ROLES[role]).lastIndexOf("user");

/** The pieces with the reader's question in place of the last one, cut at special strings: it is read like the rest. */
function withQuestion(shown, now, special) {
  if (!now.question || !isAsked(now)) return shown;
  const last = lastQuestion(shown);
  const either = new RegExp(`(${special.map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`);
  const parts = now.question.split(either).filter((part) => part !== "");
  return [...shown.slice(0, last), ...parts.map((part) => [part, shown[last][1], Number(special.includes(part))]), ...shown.slice(last + 1)];
}

// ---- controls -------------------------------------------------------------------------------------------------------------

const FLAGS = { thinking: [[false, "no thinking"], [true, "thinking"]], tools: [[false, "none"], [true, "one that adds"]],
  keep_thoughts: [[false, "as released"], [true, "thoughts kept (an error)"]], add_generation_prompt: [[true, "the assistant"], [false, "the user"]] };

function makeControls(cases, pick) {
  const family = radios("Family, by release", Object.entries(FAMILIES), pick("family"));
  const groups = {
    thinking: explained("Mode", FLAGS.thinking, pick("thinking")),
    effort: explained("Effort", ["low", "medium", "high"].map((level) => [level, level]), pick("effort")),
    turns: explained("Questions asked", [1, 2, 3].map((n) => [n, String(n)]), pick("turns")),
    tools: explained("Tools", FLAGS.tools, pick("tools")),
    keep_thoughts: explained("Earlier thoughts", FLAGS.keep_thoughts, pick("keep_thoughts")),
    add_generation_prompt: explained("Who speaks next", FLAGS.add_generation_prompt, pick("add_generation_prompt")),
  };
  const question = h("input", { type: "text", maxlength: LONGEST, autocomplete: "off", oninput: () => pick("question")(question.value) });
  const why = h("p", { class: "te-why" });
  const own = field("Your own last question", question);
  own.append(why);
  const node = h("div", { class: "dsw-controls" }, h("div", { class: "dsw-span" }, family.node), groups.thinking.node, groups.effort.node,
    groups.turns.node, own, groups.tools.node, groups.keep_thoughts.node, h("div", { class: "dsw-span" }, groups.add_generation_prompt.node));
  const show = (now, asked, special) => {
    family.show(now.family);
    for (const [name, group] of Object.entries(groups)) group.show(now[name], (value) => can(now, cases, name, value), reason(name, now, cases));
    if (question.value !== now.question) question.value = now.question;
    question.placeholder = asked;
    question.disabled = !isAsked(now);
    why.textContent = question.disabled ? "It has been answered already." : `A special token in it is read as one: try ${special}`;
  };
  return { node, show };
}

/** Radio buttons for values of any kind, of which some may be impossible, and a line that says why. */
function explained(label, options, onpick) {
  const own = radios(label, options.map(([value, text]) => [String(value), text]), (name) => onpick(options.find(([value]) => String(value) === name)[0]));
  const why = h("p", { class: "te-why" });
  own.node.append(why);
  const show = (value, possible, text) => {
    own.inputs.forEach((input, i) => (input.disabled = !possible(options[i][0])));
    const none = own.inputs.every((input) => input.disabled);
    own.show(none ? null : value);
    why.textContent = own.inputs.some((input) => input.disabled) ? text : "";
  };
  return { node: own.node, show };
}

function reason(name, now, cases) {
  const family = FAMILIES[now.family];
  if (name === "thinking") return can(now, cases, "thinking", true) ? `${family} always thinks.` : `${family} never thinks.`;
  if (name === "effort") return "Only gpt-oss has levels of effort.";
  if (name === "tools") {
    const other = { ...now, thinking: !now.thinking };
    return can(other, cases, "tools", true) ? `${family} takes tools only without thinking.` : `Our template of ${family} describes none.`;
  }
  return now.thinking ? "No question came before." : "Nothing was thought.";
}

// ---- the text ---------------------------------------------------------------------------------------------------------------

/** The pieces as elements. Their text is the text, character for character: labels and signs are drawn by the style. */
function draw(shown) {
  let before = null;
  return shown.map(([text, role, special]) => {
    const name = ROLES[role];
    const first = !special && name !== "template" && name !== before;
    if (!special) before = name;
    const title = special ? `special token${text.includes("｜") ? ", its bars are U+FF5C" : ""}` : name === "template" ? "written by the template" : NAMES[name];
    const parts = text.split(/(\n|｜)/).map((part) => (SIGNS[part] ? h("span", { class: SIGNS[part] }, part) : part));
    return h("span", { class: `te-piece ${special ? "te-special" : `te-${name}`}${first ? " te-first" : ""}`, title, "data-name": NAMES[name] }, parts);
  });
}

/** The legend: who wrote how many characters. */
function count(shown) {
  const sizes = {};
  for (const [text, role, special] of shown) {
    const name = special ? "special" : ROLES[role];
    sizes[name] = (sizes[name] || 0) + (special ? 1 : [...text].length);
  }
  return ["special", ...ROLES].filter((name) => sizes[name]).map((name) => h("li", {}, h("span", { class: `te-key te-${name}` }, NAMES[name]), h("strong", {}, grouped(sizes[name])), name === "special" ? "" : h("span", { class: "dsw-sr" }, " characters")));
}

/** The call that makes this text. */
function callOf(now, date) {
  const effort = now.family === "gpt-oss" ? `, effort="${now.effort}", date="${date}"` : `, thinking=${now.thinking ? "True" : "False"}`;
  return `render(messages, "${now.family}"${effort}${now.tools ? ", tools=[add]" : ""}${now.add_generation_prompt ? "" : ", add_generation_prompt=False"})`;
}

export default { render };
