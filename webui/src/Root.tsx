// Who may see what: set-up, log-in, or the pages.
import { useRouterState } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { useAccess } from "./api/queries";
import { Shell } from "./components/shell/Shell";
import { Button, Failure, Loading } from "./components/ui";
import { FirstPassword, Login, RETURN, Returned, Setup } from "./pages/Gate";

export function Root() {
  const access = useAccess();
  const returned = useRouterState({ select: ({ location }) => location.pathname === RETURN });
  if (returned) return <Returned />;
  // What was known last goes on being shown: a lost connection is told by its banner, not by an empty page.
  if (access.data)
    switch (access.data.state) {
      case "setup":
        return <Setup />;
      case "out":
        return <Login />;
      case "password":
        return <FirstPassword />;
      default:
        return <Shell access={access.data as Parameters<typeof Shell>[0]["access"]} />;
    }
  return (
    <Centre>
      {access.isPending ? (
        <Loading />
      ) : (
        <Failure error={access.error}>
          <p className="mt-2">
            <Button onClick={() => void access.refetch()}>Try again</Button>
          </p>
        </Failure>
      )}
    </Centre>
  );
}

const Centre = ({ children }: { children: ReactNode }) => (
  <main className="mx-auto flex w-[min(26rem,100%-2rem)] flex-col items-center py-[20vh]">{children}</main>
);
