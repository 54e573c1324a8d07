// The script of all pages: live updates, times in the viewer's zone, and the code of an invitation.
// Every page works without this script.
"use strict"

const live = document.querySelector("[data-live]")
const state = document.getElementById("live-state")
const stamp = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" })
const brief = new Intl.DateTimeFormat(document.documentElement.lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })

function showTimes(root) {
  for (const time of root.querySelectorAll("time:not(.age)")) {
    time.textContent = (time.classList.contains("short") ? brief : stamp).format(new Date(time.dateTime))
  }
}

// Makes a part of the page like a new one, and keeps what a person is at: focus, input, scrolling, open details.
function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh)
    return
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data
    return
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old.isEqualNode(fresh)) return
  if (old === document.activeElement && old.matches("input, select, textarea")) return
  const kept = old.nodeName === "DETAILS" ? ["open"] : old.matches("input, select, textarea") ? ["value", "checked"] : []
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name)
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !kept.includes(name)) old.setAttribute(name, value)
  }
  updateChildren(old, fresh)
}

function updateChildren(old, fresh) {
  const atEnd = old.scrollHeight - old.scrollTop - old.clientHeight < 4
  const known = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]))
  let place = old.firstChild
  for (const next of Array.from(fresh.childNodes)) {
    const same = next.id ? known.get(next.id) : undefined
    if (same && same !== place) {
      old.insertBefore(same, place)
      place = same
    }
    if (!place) {
      old.append(next)
      continue
    }
    const following = place.nextSibling
    update(place, next)
    place = following
  }
  while (place) {
    const following = place.nextSibling
    place.remove()
    place = following
  }
  if (atEnd && old.matches("pre.log")) old.scrollTop = old.scrollHeight
}

function follow() {
  let source = null
  let seen = new Date()
  function open() {
    source = new EventSource(`/ui/live?page=${encodeURIComponent(location.pathname + location.search)}`)
    source.addEventListener("open", () => { state.textContent = "" })
    source.addEventListener("update", (event) => {
      const fresh = document.createElement("div")
      fresh.innerHTML = JSON.parse(event.data).html
      showTimes(fresh)
      updateChildren(live, fresh)
      seen = new Date()
      state.textContent = ""
    })
    source.addEventListener("stale", (event) => {
      state.textContent = `${live.dataset.stale} ${stamp.format(seen)}. ${JSON.parse(event.data).reason}`
    })
    source.addEventListener("end", () => { source.close(); location.reload() })
    source.addEventListener("error", () => {
      state.textContent = `${live.dataset.lost} ${stamp.format(seen)}`
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) open() }, 5000)
    })
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source.close()
      state.textContent = live.dataset.paused
    } else {
      open()
    }
  })
  if (document.hidden) state.textContent = live.dataset.paused
  else open()
}

showTimes(document)
document.querySelector("nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" })
for (const input of document.querySelectorAll("[data-from-fragment]")) {
  if (location.hash && !input.value) {
    input.value = location.hash.slice(1)
    history.replaceState(null, "", location.pathname)
  }
}
for (const log of document.querySelectorAll("pre.log")) log.scrollTop = log.scrollHeight
if (live) follow()
