import { render } from "preact";
import "../../shared/tokens.css";
import "./style.css";
import { App } from "./app";
import { choose, language } from "./words";

choose(language());
render(<App />, document.body);
