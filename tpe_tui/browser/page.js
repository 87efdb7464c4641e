// Tells textual.js where the socket is, beside this page whatever the address; gives the terminal the keys once it is
// connected; and offers a view that has ended again.
document.addEventListener("DOMContentLoaded", () => {
  const terminal = document.getElementById("terminal");
  const socket = new URL("ws", window.location.href);
  socket.protocol = socket.protocol.replace("http", "ws");
  socket.search = "";
  terminal.dataset.sessionWebsocketUrl = socket.href;
  const size = Number(new URLSearchParams(window.location.search).get("fontsize"));
  if (size >= 6 && size <= 60) {
    terminal.dataset.fontSize = size;
  }
  document.getElementById("again").addEventListener("click", () => window.location.reload());
  const connected = new MutationObserver(() => {
    if (document.body.classList.contains("-loaded")) {
      connected.disconnect();
      document.querySelector(".xterm-helper-textarea")?.focus();
    }
  });
  connected.observe(document.body, { attributeFilter: ["class"] });
});
