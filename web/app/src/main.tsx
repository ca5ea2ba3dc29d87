import { render } from "preact";
import { currentLanguage, say } from "../../shared/language";
import "../../shared/tokens.css";

render(<p>{say(["Fallow", "Fallow"], currentLanguage())}</p>, document.body);
