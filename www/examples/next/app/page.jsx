"use client";

import "magpie-recognizer/react";

export default function Page() {
  return (
    <main>
      <h1>What is in the picture?</h1>
      <magpie-recognizer bundle="bundle/" top-k={1} camera teach />
    </main>
  );
}
