import { render } from "preact";
import "../../shared/tokens.css";
import "./app.css";
import { App } from "./App";

const place = document.getElementById("app");
if (place) {
  // What stands there is painted while this script is still on its way.
  place.replaceChildren();
  render(<App />, place);
}
