// A heading that has all that was typed comes before pages that have its words somewhere.
Object.assign(Scorer, {
  score: ([, , anchor, description, score, , kind]) =>
    score + (kind === "title" || (anchor && description === null) ? 20 : 0),
});

// Chinese has no spaces between its words: the browser knows where they are.
if (document.documentElement.lang.startsWith("zh") && Intl.Segmenter) {
  splitQuery = (query) =>
    [...new Intl.Segmenter("zh", { granularity: "word" }).segment(query)]
      .filter((part) => part.isWordLike)
      .map((part) => part.segment);
}
