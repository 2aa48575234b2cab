// The assistant behind a client that has no model: asks for the next call, hands over whole results.

export async function work(api, tools, call) {
  let content = ["Begin."];
  for (let turns = 0; ; turns++) {
    const body = JSON.stringify({ tools, turns, content });
    const answer = await fetch(api + "/raw", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const told = await answer.json();
    if (!told.tool) return;
    try {
      const { content: blocks = [], structuredContent } = await call(told.tool, told.arguments);
      content = blocks.map((block) => (block.type === "text" ? block.text : block));
      if (structuredContent) content.push(JSON.stringify(structuredContent));
    } catch (error) {
      console.error(`${error.name}: ${error.message}`);
      content = [`${error.name}: ${error.message}`];
    }
  }
}
