// How much the whole cluster does and did, and which hosts and machines do most. Span and order are in the address.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ArrowDown, ChartLine } from "lucide-react";
import { useMemo, type ReactNode } from "react";
import { api, call, type Load, type Usage } from "../api/client";
import { useHosts, useNames, useVms } from "../api/queries";
import { Charts, DISK, NETWORK, SpanSelect, rate, size, useSpan, type Panel } from "../components/History";
import { Head } from "../components/Page";
import { Card, Failure, Loading, Warning, cx } from "../components/ui";
import { SPANS, series } from "../lib/history";
import { LOADS, loadKind, ranked, type LoadKind } from "../lib/usage";

/** Machines shown. */
const TOP = 10;

const round = (value: number) => String(Math.round(value * 100) / 100);

export function Monitoring() {
  const [, , seconds, kept] = useSpan(SPANS);
  const usage = useQuery({
    queryKey: ["usage", kept],
    queryFn: () => call(api.GET("/cluster/usage", { params: { query: { span: kept, top: TOP } } })),
    refetchInterval: kept === "hour" ? 5000 : 60_000,
    gcTime: 0,
  });
  const { data } = usage;
  const points = useMemo(() => series(data?.history), [data]);
  const names = useNames(useHosts());
  return (
    <>
      <Head title="Monitoring" icon={ChartLine}>
        <SpanSelect />
      </Head>
      <div className="flex flex-col gap-4">
        <Failure error={usage.error} />
        {usage.isPending && <Loading />}
        {!!data?.silent?.length && (
          <Warning>
            What {data.silent.map((host) => names(host) ?? host).join(", ")} did is missing: it cannot be
            asked.
          </Warning>
        )}
        {data && (
          <>
            <Charts series={points} panels={panels(data)} seconds={seconds} />
            <div className="grid gap-4 2xl:grid-cols-2">
              <Hosts usage={data} />
              <Machines usage={data} />
            </div>
          </>
        )}
      </div>
    </>
  );
}

function panels({ hosts }: Usage): Panel[] {
  const processors = hosts.reduce((sum, host) => sum + host.processors, 0);
  const memory = hosts.reduce((sum, host) => sum + host.memory_bytes, 0);
  return [
    {
      title: `Processors in use, of ${processors}`,
      format: round,
      lines: [{ name: "cpu", label: "Processors" }],
      ...(processors ? { top: processors } : {}),
    },
    {
      title: `Memory in use, of ${size(memory)}`,
      format: size,
      bytes: true,
      lines: [{ name: "memory.used", label: "In use" }],
      ...(memory ? { top: memory } : {}),
    },
    DISK,
    NETWORK,
  ];
}

function Hosts({ usage: { hosts } }: { usage: Usage }) {
  const names = useNames(useHosts());
  return (
    <Consumers
      title="Hosts"
      items={hosts.map((each) => ({
        ...each,
        id: each.host,
        name: (
          <Link className="link" to="/hosts/$id/performance" params={{ id: each.host }}>
            {names(each.host) ?? each.host}
          </Link>
        ),
        of: { cpu: each.processors, memory: each.memory_bytes },
      }))}
      none="No host was measured."
    />
  );
}

function Machines({ usage: { machines } }: { usage: Usage }) {
  const vms = useNames(useVms());
  const hosts = useNames(useHosts());
  return (
    <Consumers
      title="Virtual machines that do most"
      most={TOP}
      items={machines.map((each) => ({
        ...each,
        id: each.vm,
        name: (
          <>
            <Link className="link" to="/vms/$id/performance" params={{ id: each.vm }}>
              {vms(each.vm) ?? each.vm}
            </Link>{" "}
            {hosts(each.host) && <span className="text-dim">on {hosts(each.host)}</span>}
          </>
        ),
      }))}
      none="No machine ran."
    />
  );
}

const COLUMNS: Record<LoadKind, { label: string; format: (value: number) => string }> = {
  cpu: { label: "Processors", format: round },
  memory: { label: "Memory", format: size },
  disk: { label: "Disk", format: rate },
  network: { label: "Network", format: rate },
};

interface Consumer {
  id: string;
  name: ReactNode;
  load: Load;
  /** What there is of it. */
  of?: { cpu: number; memory: number };
}

/** Means over the span, in the order of one of them. */
function Consumers({
  title,
  items,
  most,
  none,
}: {
  title: string;
  items: Consumer[];
  /** How many are shown; all where absent. */
  most?: number;
  none: string;
}) {
  const { sort } = useSearch({ strict: false }) as { sort?: string };
  const navigate = useNavigate();
  const by = loadKind(sort);
  return (
    <Card title={title}>
      {items.length === 0 ? (
        <p className="text-dim">{none}</p>
      ) : (
        <div className="overflow-x-auto" tabIndex={0} role="region" aria-label={title}>
          <table className="w-full min-w-130 text-left">
            <thead>
              <tr className="text-sm text-dim [&>th]:pb-1 [&>th]:font-medium">
                <th scope="col">Name</th>
                {LOADS.map((kind) => (
                  <th
                    key={kind}
                    scope="col"
                    className="text-right"
                    aria-sort={kind === by ? "descending" : undefined}
                  >
                    <button
                      type="button"
                      className={cx(
                        "inline-flex items-center gap-1 rounded px-1 hover:text-text",
                        kind === by && "text-text",
                      )}
                      onClick={() =>
                        void navigate({
                          to: ".",
                          search: (old: object) => ({ ...old, sort: kind }),
                          replace: true,
                        })
                      }
                    >
                      {kind === by && <ArrowDown size={13} aria-hidden />}
                      {COLUMNS[kind].label}
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {ranked(items, by, most).map((item) => (
                <tr key={item.id} className="border-t border-line/60 [&>*]:py-1.5 [&>*]:pl-4">
                  <th scope="row" className="pl-0! font-normal">
                    {item.name}
                  </th>
                  {LOADS.map((kind) => {
                    const value = item.load[kind];
                    const of = kind === "cpu" || kind === "memory" ? item.of?.[kind] : undefined;
                    return (
                      <td key={kind} className="text-right tabular-nums">
                        {value == null ? "–" : COLUMNS[kind].format(value)}
                        {value != null && of !== undefined && (
                          <span className="text-dim"> of {COLUMNS[kind].format(of)}</span>
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
