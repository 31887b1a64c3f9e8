// What to show instead of a part of the page whose query has failed, such as one that the server refuses to this caller.
import { ConvexError } from "convex/values";
import { Component, type ReactNode } from "react";

export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  render() {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <p role="alert">
        {error instanceof ConvexError ? error.data.message : error.message}{" "}
        <button onClick={() => this.setState({ error: null })}>Try again</button>
      </p>
    );
  }
}
