// A fault of ours in one page leaves the others usable.
import { Component, type ReactNode } from "react";
import { words } from "../api/client";
import { Button } from "./ui";

export class Guard extends Component<{ children: ReactNode }, { error?: unknown }> {
  override state: { error?: unknown } = {};
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }
  override render() {
    if (this.state.error === undefined) return this.props.children;
    return <Fault error={this.state.error} />;
  }
}

export function Fault({ error }: { error: unknown }) {
  return (
    <div className="flex flex-col items-start gap-3 rounded-md bg-bad-soft p-5 text-bad" role="alert">
      <strong>This page has a fault.</strong>
      <p className="wrap-anywhere">{words(error)}</p>
      <p>The other pages go on working. If it happens again, please report it with the words above.</p>
      <Button onClick={() => location.reload()}>Load it again</Button>
    </div>
  );
}
