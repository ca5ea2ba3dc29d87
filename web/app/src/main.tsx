import { render } from "preact";
import "../../shared/tokens.css";
import "./app.css";
import { App } from "./App";

const place = document.getElementById("app");
if (place) render(<App />, place);
