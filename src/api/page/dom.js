// Making elements. Text is always set as text, never as markup: names come from nodes.

export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    // The page's policy forbids the attribute, not the property.
    else if (key === "style") element.style.cssText = value;
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child != null) element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

// Replaces what is in an element, and keeps the keyboard focus where it was.
export function fill(parent, ...children) {
  const id = parent.contains(document.activeElement) ? document.activeElement.id : "";
  parent.replaceChildren(...children.flat().filter((child) => child != null));
  if (id) document.getElementById(id)?.focus({ preventScroll: true });
}

export function state(name, text = name) {
  return el("span", { class: `state ${/^[a-z]+$/.test(name) ? name : ""}` }, text);
}

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const time = (unix) => new Date(unix * 1000).toLocaleTimeString();
export const number = (value) => (Math.abs(value) >= 10 ? Math.round(value) : Math.round(value * 10) / 10).toLocaleString();

export async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

let token = "";
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
  if (response.status === 401) {
    token = prompt("This needs the token (http.token in gateway.yaml):") ?? "";
    if (token) return post(path, body);
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}
