// The exact requests of one client.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { clientRequestsQuery } from "../api/queries";
import type { ClientKey, RequestRow } from "../api/types";
import { list } from "../lib/firstline";
import { count, percent } from "../lib/format";
import { useKeys } from "../lib/keys";
import { Card } from "./Card";
import { Raw } from "./Raw";
import { RequestDialog, requestId, RequestTable } from "./RequestTable";
import { Age, Body, Empty } from "./States";
import type { PageState } from "./Toolbar";

export default function ClientRequests({ client, page }: { client: ClientKey; page: PageState }) {
  const query = useInfiniteQuery(clientRequestsQuery(client, "", page.range));
  const rows = useMemo(() => query.data?.pages.flatMap((one) => one.requests) ?? [], [query.data]);
  const [open, setOpen] = useState<RequestRow | null>(null);
  const selected = page.search.sel;
  const at = rows.findIndex((row) => requestId(row) === selected);
  const move = (step: number) => {
    const row = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))];
    if (row) page.set({ sel: requestId(row) }, true);
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => {
      const row = rows[at];
      if (row) setOpen(row);
    },
  });
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const onEnd = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const errors = rows.filter((row) => row.status >= 400).length;
  const methods = [...new Set(rows.map((row) => row.method))].slice(0, 4);
  return (
    <Card title="Requests" actions={<Age query={query as never} />}>
      <Body query={query as never} rows={8}>
        {() =>
          rows.length === 0 ? (
            <Empty title="No requests in this span">Widen the time range to see earlier ones.</Empty>
          ) : (
            <div className="h-96">
              <RequestTable
                label="Requests of this client"
                rows={rows}
                selected={selected}
                onSelect={(id) => page.set({ sel: id }, true)}
                onOpen={setOpen}
                onEnd={onEnd}
                without={["src_ip", "host", "ja4"]}
                head={
                  <span>
                    {count(rows.length)}
                    {hasNextPage ? " and more" : ""} loaded, newest first; {percent(errors / rows.length)} errors among them; <Raw value={list(methods)} max={60} />
                  </span>
                }
              />
            </div>
          )
        }
      </Body>
      {open && <RequestDialog row={open} onClose={() => setOpen(null)} />}
    </Card>
  );
}
