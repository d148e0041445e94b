(** T5 (a) [monotone]: one-sided Lipschitz maps of a Hilbert space, <G(y) - G(z), y - z> <= m |y - z|^2 with m < 1. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard BanachSpace Damped HilbertSpace RefutePoints.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The square of the damped map's constant. *)
Definition damped_square (m L b : R) : R := (1 - b) ^ 2 + 2 * b * (1 - b) * m + b ^ 2 * L ^ 2.

Lemma denominator m L : m < 1 -> m <= L -> 0 < 1 - 2 * m + L ^ 2.
Proof.
  intros below less. destruct (Req_dec m L) as [<-|apart]; [nra|].
  pose proof (Rle_0_sqr (1 - L)). unfold Rsqr in *. nra.
Qed.

Lemma damped_square_below m L b : m < 1 -> m <= L -> 0 < b -> b < 2 * (1 - m) / (1 - 2 * m + L ^ 2) ->
  damped_square m L b < 1.
Proof.
  intros below less b0 step. pose proof (denominator below less) as pos.
  apply Rmult_lt_compat_r with (r := 1 - 2 * m + L ^ 2) in step; [|exact pos].
  unfold Rdiv in step. rewrite Rmult_assoc, Rinv_l, Rmult_1_r in step by lra.
  replace (damped_square m L b) with (1 + b * (b * (1 - 2 * m + L ^ 2) - 2 * (1 - m))) by (unfold damped_square; ring).
  nra.
Qed.

(** The best step, for the constant. *)
Theorem one_sided_best (m L : R) : m < 1 -> m <= L ->
  let best := Rmin 1 ((1 - m) / (1 - 2 * m + L ^ 2)) in
  0 < best <= 1 /\ best < 2 * (1 - m) / (1 - 2 * m + L ^ 2)
  /\ forall b, 0 < b <= 1 -> damped_square m L best <= damped_square m L b.
Proof.
  intros below less best. pose proof (denominator below less) as pos.
  set (D := 1 - 2 * m + L ^ 2) in *. set (top := (1 - m) / D) in best.
  assert (top0 : 0 < top) by (apply Rdiv_lt_0_compat; lra).
  assert (exact_top : top * D = 1 - m) by (unfold top; field; lra).
  split; [|split].
  - unfold best. split; [apply Rmin_glb_lt; lra | apply Rmin_l].
  - replace (2 * (1 - m) / D) with (2 * top) by (unfold top; field; lra).
    pose proof (Rmin_r 1 top). unfold best. lra.
  - assert (value : forall b, damped_square m L b = 1 + D * (b * b) - 2 * b * (top * D)).
    { intros b. rewrite exact_top. unfold damped_square, D. ring. }
    intros b range. rewrite !value.
    assert (nearer : (best - top) * (best - top) <= (b - top) * (b - top)).
    { unfold best, Rmin. destruct (Rle_dec 1 top) as [cut|free].
      - assert (0 <= (1 - b) * (top - 1 + (top - b))) by (apply Rmult_le_pos; lra). nra.
      - pose proof (Rle_0_sqr (b - top)). unfold Rsqr in *. lra. }
    apply Rmult_le_compat_l with (r := D) in nearer; lra.
Qed.

Theorem one_sided (H : hilbert) (G : point H -> point H) (m L : R) :
  0 <= L -> lipschitz (metric H) (fun _ => True) L G ->
  (forall y z, inner H (sub H (G y) (G z)) (sub H y z) <= m * norm H (sub H y z) ^ 2) -> m < 1 ->
  let m' := Rmin m L in
  exists s, G s = s
  /\ (forall t, G t = t -> t = s)
  /\ (forall y, norm H (sub H y s) <= norm H (sub H (G y) y) / (1 - m'))
  /\ (forall b, 0 < b <= 1 -> b < 2 * (1 - m') / (1 - 2 * m' + L ^ 2) ->
        let rate := sqrt ((1 - b) ^ 2 + 2 * b * (1 - b) * m' + b ^ 2 * L ^ 2) in
        rate < 1 /\ lipschitz (metric H) (fun _ => True) rate (damped_map H b G)
        /\ forall z0, let y := iterate (metric H) (damped_map H b G) z0 in
             tends (metric H) y s
             /\ forall n, norm H (sub H (y n) s) <= rate ^ n / (1 - rate) * norm H (sub H (y 1%nat) z0)).
Proof.
  intros L0 lip sided below m'.
  assert (below' : m' < 1) by (apply Rle_lt_trans with (2 := below); apply Rmin_l).
  assert (less : m' <= L) by apply Rmin_r.
  assert (sided' : forall y z, inner H (sub H (G y) (G z)) (sub H y z) <= m' * norm H (sub H y z) ^ 2).
  { intros y z. pose proof (cauchy_schwarz H (sub H (G y) (G z)) (sub H y z)) as cs.
    pose proof (lip y z I I) as k. pose proof (sided y z) as one. pose proof (norm_nonneg H (sub H y z)) as d0.
    simpl in k. unfold m', Rmin. destruct (Rle_dec m L); [exact one|]. simpl. nra. }
  assert (contracts : forall b, 0 < b <= 1 -> lipschitz (metric H) (fun _ => True) (sqrt (damped_square m' L b))
    (damped_map H b G)).
  { intros b range y z _ _. apply root_bound. unfold damped_map.
    rewrite sub_add, !scale_sub, norm_combination, (inner_comm H (sub H y z)).
    pose proof (sided' y z) as one. pose proof (lip y z I I) as k. simpl in k.
    pose proof (norm_nonneg H (sub H (G y) (G z))) as g0. pose proof (norm_nonneg H (sub H y z)) as d0.
    set (g := norm H (sub H (G y) (G z))) in *. set (d := norm H (sub H y z)) in *.
    set (i := inner H _ _) in *. unfold damped_square.
    assert (squares : g * g <= (L * d) * (L * d)) by (apply Rmult_le_compat; assumption).
    assert (b * b * (g * g) <= b * b * ((L * d) * (L * d))) by (apply Rmult_le_compat_l; nra).
    assert (2 * (1 - b) * b * i <= 2 * (1 - b) * b * (m' * d ^ 2)) by (apply Rmult_le_compat_l; nra).
    simpl in *. nra. }
  destruct (one_sided_best below' less) as [[best0 best1] [best_step _]].
  set (best := Rmin 1 ((1 - m') / (1 - 2 * m' + L ^ 2))) in *.
  assert (rates : forall b, 0 < b -> b < 2 * (1 - m') / (1 - 2 * m' + L ^ 2) -> 0 <= sqrt (damped_square m' L b) < 1).
  { intros b b0 step. split; [apply sqrt_pos|]. rewrite <- sqrt_1.
    pose proof (damped_square_below below' less b0 step). destruct (Rle_lt_dec 0 (damped_square m' L b)).
    - apply sqrt_lt_1_alt. lra.
    - rewrite (sqrt_neg_0 (damped_square m' L b)) by lra. rewrite sqrt_1. lra. }
  assert (stays : forall b, invariant (metric H) (fun _ => True) (damped_map H b G)) by (intros b y _; exact I).
  destruct (picard (rates best best0 best_step) (stays best) (contracts best (conj best0 best1)) (@metric_complete H)
    (zero H) I)
    as [s [_ [fixed [only _]]]].
  apply damped_equilibria in fixed; [|lra].
  assert (one : forall t, G t = t -> t = s).
  { intros t ft. apply only; [exact I|]. apply damped_equilibria; [lra | exact ft]. }
  exists s. split; [exact fixed|]. split; [exact one|]. split.
  - intros y. pose proof (sided' y s) as here. rewrite fixed in here.
    pose proof (cauchy_schwarz H (sub H y (G y)) (sub H y s)) as cs.
    assert (parts : inner H (sub H y (G y)) (sub H y s)
              = norm H (sub H y s) ^ 2 - inner H (sub H (G y) s) (sub H y s)).
    { simpl. rewrite Rmult_1_r, inner_norm, <- inner_sub. f_equal. rewrite (sub_split H y s (G y)).
      unfold sub. rewrite neg_add, neg_neg, (add_comm H s). reflexivity. }
    rewrite norm_sub_sym in cs. rewrite parts in cs.
    pose proof (norm_nonneg H (sub H (G y) y)) as r0. pose proof (norm_nonneg H (sub H y s)) as d0.
    apply Rmult_le_reg_r with (1 - m'); [lra|]. unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
    set (d := norm H (sub H y s)) in *. set (r := norm H (sub H (G y) y)) in *. simpl in *.
    destruct d0 as [d0|<-]; [|lra]. apply Rmult_le_reg_r with (1 := d0). lra.
  - intros b range step rate. pose proof (rates b (proj1 range) step) as [rate0 rate1].
    change (sqrt (damped_square m' L b)) with rate in rate0, rate1.
    split; [exact rate1|]. split; [exact (contracts b range)|].
    intros z0 y. destruct (picard (conj rate0 rate1) (stays b) (contracts b range) (@metric_complete H) z0 I)
      as [s' [_ [fixed' [_ [conv _]]]]].
    apply damped_equilibria in fixed'; [|lra]. rewrite (one s' fixed') in conv.
    destruct (conv z0 I) as [lim [prior _]]. split; [exact lim | exact prior].
Qed.

(** The hypotheses can be met where T1 fails: -27 y on the line, m = -27 and L = 27. *)
Theorem one_sided_instance : let G := fun y : point real_line => -27 * y in
  lipschitz (metric real_line) (fun _ => True) 27 G
  /\ (forall y z, inner real_line (sub real_line (G y) (G z)) (sub real_line y z)
        <= -27 * norm real_line (sub real_line y z) ^ 2)
  /\ forall q, q < 1 -> ~ lipschitz (metric real_line) (fun _ => True) q G.
Proof.
  intros G. assert (apart : forall y z, dist (metric real_line) (G y) (G z) = 27 * dist (metric real_line) y z).
  { intros y z. simpl. unfold sub; simpl. unfold G. replace (-27 * y + - (-27 * z)) with (-27 * (y + - z)) by ring.
    rewrite Rabs_mult, (Rabs_left (-27)) by lra. ring. }
  split; [|split].
  - intros y z _ _. rewrite apart. lra.
  - intros y z. simpl. unfold sub; simpl. unfold G. rewrite Rmult_1_l, Rmult_1_r.
    pose proof (Rsqr_abs (y + - z)) as s. unfold Rsqr in s. rewrite <- s. right. ring.
  - intros q below. apply (@refute_points (metric real_line) _ _ (0 : point real_line) (1 : point real_line));
      [exact I | exact I | exact (Rlt_not_eq _ _ Rlt_0_1) | | exact below].
    rewrite apart. pose proof (dist_nonneg (metric real_line) 0 1) as d0. simpl in *. lra.
Qed.
