// What happened to an object, newest first.
import { useEvents } from "../api/queries";
import { time } from "../lib/format";
import { Dot, Failure, Loading, cx } from "./ui";

export function EventList({ target, limit }: { target: string; limit: number }) {
  const events = useEvents({ target, limit });
  if (events.isPending) return <Loading />;
  if (events.error) return <Failure error={events.error} />;
  if (events.data.length === 0) return <p className="text-dim">Nothing has happened yet.</p>;
  return (
    <ol className="flex flex-col gap-1.5">
      {events.data.map((event) => (
        <li key={event.id} className="flex flex-wrap gap-x-3 wrap-anywhere sm:flex-nowrap">
          <time dateTime={event.at} className="w-44 flex-none text-dim tabular-nums">
            {time(event.at)}
          </time>
          <span className="pt-1.5 leading-none">
            <Dot state={event.level} />
          </span>
          <span className={cx(event.level === "error" && "text-bad")}>
            {event.level !== "info" && <span className="font-medium">{event.level}: </span>}
            {event.message}
            {event.actor && !event.message.startsWith(event.actor) && (
              <span className="text-dim"> (by {event.actor})</span>
            )}
          </span>
        </li>
      ))}
    </ol>
  );
}
