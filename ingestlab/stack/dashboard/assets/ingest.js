// Says in the browser since when nothing came from the scheduler, and loads the page again once it answers.
const SILENT = 10000; // ms without a beat, of which there are two a second

document.querySelector("[data-root-id]")?.setAttribute("role", "main"); // Bokeh's pages have no landmarks
let beat = Date.now(), asking = false;
const note = document.createElement("div");
note.className = "disconnected";
note.setAttribute("role", "alert");
note.hidden = true;
document.body.append(note);
window.ingestBeat = () => {
  beat = Date.now();
  note.hidden = true;
};

setInterval(async () => {
  if (asking || Date.now() - beat < SILENT) return;
  if (note.hidden) note.textContent = `Disconnected since ${new Date(beat).toLocaleTimeString()}. The page tries again.`;
  note.hidden = false;
  asking = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.ok && Date.now() - beat >= SILENT) location.reload();
  } catch {
    // it is still away, which the note says already
  } finally {
    asking = false;
  }
}, 1000);
