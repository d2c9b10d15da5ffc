// The names that pages use for the types of the API document.
import type { components, operations } from "./schema";

type Schemas = components["schemas"];

export type Status = Schemas["Status"];
export type Me = Schemas["Me"];
export type Reason = Schemas["Reason"];
export type ModelScore = Schemas["ModelScore"];
export type ClientRow = Schemas["ClientRow"];
export type ClientPage = Schemas["ClientPage"];
export type ClientKey = Schemas["ClientKey"];
export type ClientFacts = Schemas["ClientFacts"];
export type Matrix = Schemas["Matrix"];
export type MatrixCell = Schemas["MatrixCell"];
export type Numbers = Schemas["Numbers"];
export type Waterfall = Schemas["Waterfall"];
export type LabelEntry = Schemas["LabelEntry"];
export type LabelKind = Schemas["LabelKind"];
export type Label = Schemas["Label"];
export type RequestRow = Schemas["RequestRow"];
export type RequestColumn = Schemas["RequestColumn"];
export type Overview = Schemas["Overview"];
export type Facet = Schemas["Facet"];
export type Shown = Schemas["Shown"];
export type Truncated = Schemas["Truncated"];
export type GroupPage = Schemas["GroupPage"];
export type GroupKind = Schemas["GroupKind"];
export type Field = Schemas["Field"];
export type RulesFormat = Schemas["RulesFormat"];
export type RulesMatch = Schemas["RulesMatch"];
export type Rules = Schemas["Rules"];
export type AuditEntry = Schemas["AuditEntry"];
export type ClientSort = NonNullable<NonNullable<operations["clients"]["parameters"]["query"]>["sort"]>;
