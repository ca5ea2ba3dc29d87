// A table that the server searches, filters, sorts and cuts into pages, as the address of the page says.
import type { ComponentChildren } from "preact";
import { type Live, useLive } from "../api";
import { Card, type Column, Loaded, Pager, Search, Table } from "../parts";
import { type Route, turn } from "../route";
import { t } from "../words";

const SIZE = 50;

export interface Listing<Told> {
  route: Route;
  live: Live<Told>;
  sort: string;
  page: number;
}

/** @param sort as the address has it, where it says nothing; @param filters names of further parameters. */
export function useListing<Told>(
  path: string,
  route: Route,
  sort: string,
  filters: readonly string[] = [],
): Listing<Told> {
  const page = Number(route.query.get("page") ?? 0) || 0;
  const sorted = route.query.get("sort") ?? sort;
  const query = new URLSearchParams({ limit: String(SIZE), page: String(page), sort: sorted });
  for (const name of ["q", ...filters]) {
    const value = route.query.get(name);
    if (value) query.set(name, value);
  }
  return { route, live: useLive<Told>(`${path}?${query}`), sort: sorted, page };
}

interface ListCardProps<Told, Row> {
  title: string;
  of: Listing<Told>;
  /** What the search looks in. */
  search: string;
  /** Further filters, beside the search. */
  filters?: ComponentChildren;
  rowsOf: (told: Told) => readonly Row[];
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string;
  empty: string;
}

export function ListCard<Told extends { total: number }, Row>(props: ListCardProps<Told, Row>) {
  const { live, page, route, sort } = props.of;
  return (
    <Card title={props.title}>
      <search class="filters">
        <Search
          label={props.search}
          value={route.query.get("q") ?? ""}
          onSearch={(q) => turn(route, { q, page: 0 })}
        />
        {props.filters}
      </search>
      <Loaded live={live}>
        {(told) => (
          <>
            <Table
              name={props.title}
              columns={props.columns}
              rows={props.rowsOf(told)}
              keyOf={props.keyOf}
              sort={sort}
              onSort={(wanted) => turn(route, { sort: wanted, page: 0 })}
              empty={props.empty}
            />
            <Pager
              page={page}
              size={SIZE}
              total={told.total}
              onPage={(wanted) => turn(route, { page: wanted })}
            />
          </>
        )}
      </Loaded>
    </Card>
  );
}

/** Pages of a list that is only followed: back to its beginning, or on after the last row that is shown. */
export function Onward(props: { route: Route; first: string; next: string; after: string | undefined }) {
  const { route, after } = props;
  return (
    <nav class="pager" aria-label={t("Pages", "分页")}>
      <button type="button" disabled={!route.query.get("after")} onClick={() => turn(route, { after: "" })}>
        {props.first}
      </button>
      <button type="button" disabled={after === undefined} onClick={() => turn(route, { after })}>
        {props.next}
      </button>
    </nav>
  );
}
