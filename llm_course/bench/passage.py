"""The passage whose perplexity the benchmark computes: plain English, unlike code or
verse, and long enough for a hundredth of a percent to show."""

PASSAGE = (
    "The river rises in the hills above the town and runs south for sixty miles"
    " before it meets the sea. For most of its length it is slow and shallow, and"
    " in dry summers a child can walk across it. In winter it is another river. It"
    " brings down branches and brown foam, floods the meadows and closes the road"
    " to the mill. The old people of the town remember the year when the water"
    " stood in the church up to the second row of seats.\n\n"
    "After that year the council bought the fields on the east bank and let them go"
    " wild. Willows came first, then herons, and in the fourth spring somebody saw"
    " an otter asleep on the stones under the bridge. A farmer who had lost his"
    " best pasture to the plan complained in every meeting for ten years. He was"
    " also the man who counted the birds each morning and wrote the numbers into a"
    " blue notebook, which the school now keeps in a glass case beside the door.\n\n"
    "The mill has not ground any corn since the war. Its wheel was repaired twelve"
    " years ago by two engineers who had retired and were bored, and it drives a"
    " small generator that lights the library and the street between the market and"
    " the station. When the water is low the lights are switched to the ordinary"
    " supply, and hardly anyone notices the difference. Visitors like to photograph"
    " the wheel, but the people who live here are prouder of the weir, because the"
    " fish can pass it.\n"
)
