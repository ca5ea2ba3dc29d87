import { openObject } from "../../src/fallow";

console.log(openObject);
