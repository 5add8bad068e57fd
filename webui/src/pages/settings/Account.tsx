// One's own account: password, second factor, sessions, tokens, and how the page looks here.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { LogOut } from "lucide-react";
import { api, call } from "../../api/client";
import { useAccess, useSessions } from "../../api/queries";
import { PasswordForm } from "../../components/PasswordForm";
import { useFollow } from "../../components/shell/Orders";
import { Button, Card, Fact, Facts, Failure, Loading, Select } from "../../components/ui";
import { time } from "../../lib/format";
import { setTheme, useTheme, type Theme } from "../../lib/prefs";
import { SecondFactor } from "./SecondFactor";
import { Tokens } from "./Tokens";

export function Account() {
  const follow = useFollow();
  return (
    <div className="grid gap-4 xl:grid-cols-2">
      <Card title="Password">
        <PasswordForm onDone={() => follow("Change the password", "done")} />
      </Card>
      <div className="flex flex-col gap-4">
        <SecondFactor />
        <Looks />
      </div>
      <div className="flex flex-col gap-4 xl:col-span-2">
        <Tokens />
        <Sessions />
      </div>
    </div>
  );
}

function Looks() {
  const theme = useTheme();
  const access = useAccess();
  return (
    <Card title="This browser">
      <div className="flex flex-col gap-4">
        <Select
          label="Theme"
          value={theme}
          options={[
            ["system", "As the system"],
            ["light", "Light"],
            ["dark", "Dark"],
          ]}
          hint="Kept in this browser."
          onValue={(value) => setTheme(value as Theme)}
        />
        <Facts>
          <Fact name="Logged in as">
            {access.data && "identity" in access.data && access.data.identity.username}
          </Fact>
          <Fact name="Keys">
            <kbd className="rounded bg-sunken px-1.5">Ctrl K</kbd> search or command,{" "}
            <kbd className="rounded bg-sunken px-1.5">/</kbd> search in a list,{" "}
            <kbd className="rounded bg-sunken px-1.5">↑ ↓</kbd> along its rows,{" "}
            <kbd className="rounded bg-sunken px-1.5">Space</kbd> selects,{" "}
            <kbd className="rounded bg-sunken px-1.5">Enter</kbd> opens,{" "}
            <kbd className="rounded bg-sunken px-1.5">Shift Esc</kbd> leaves a console
          </Fact>
        </Facts>
      </div>
    </Card>
  );
}

/** Where one is logged in; for those who may see it, everybody's. */
function Sessions() {
  const sessions = useSessions();
  const client = useQueryClient();
  const follow = useFollow();
  const end = useMutation({
    mutationFn: (id: string) => call(api.DELETE("/sessions/{id}", { params: { path: { id } } })),
    onError: (error) => follow("End the session", error),
    onSettled: () => client.invalidateQueries({ queryKey: ["sessions"] }),
  });
  return (
    <Card title="Sessions">
      <Failure error={sessions.error} />
      {sessions.isPending && <Loading />}
      <ul>
        {sessions.data?.map((session) => (
          <li
            key={session.id}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-32 font-medium">{session.username}</span>
            <span className="w-40">from {session.from}</span>
            <span className="text-dim">since {time(session.created_at)}</span>
            <span className="ml-auto">
              {session.current ? (
                <span className="text-dim">this one</span>
              ) : (
                <Button
                  small
                  icon={LogOut}
                  busy={end.isPending && end.variables === session.id}
                  aria-label={`End the session of ${session.username} from ${session.from}`}
                  onClick={() => end.mutate(session.id)}
                >
                  End
                </Button>
              )}
            </span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
