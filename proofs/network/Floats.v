(** From exact maps to floats: a layer whose sums are evaluated in any order, with rounding or with fused products, is the
    layer with shifts that are off by a little; so its iterates stay in the box that holds the fixed point. *)
From Coq Require Import Reals Lra Lia List ZArith Permutation.
From Flocq Require Import Core Relative.
From Deqops Require Import Lists Layers Located.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** Each result is off by at most [unit] of it and [least]. *)
Definition rounds (unit least : R) (rnd : R -> R) : Prop := forall x, Rabs (rnd x - x) <= unit * Rabs x + least.

(** An evaluation of a sum of products. *)
Inductive evaluation : Type :=
| Given (b : R)
| Product (a x : R)
| Sum (left right : evaluation)
| Fused (left : evaluation) (a x : R).

Fixpoint terms (t : evaluation) : list R :=
  match t with
  | Given b => [b]
  | Product a x => [a * x]
  | Sum l r => terms l ++ terms r
  | Fused l a x => a * x :: terms l
  end.

Fixpoint result (rnd : R -> R) (t : evaluation) : R :=
  match t with
  | Given b => b
  | Product a x => rnd (a * x)
  | Sum l r => rnd (result rnd l + result rnd r)
  | Fused l a x => rnd (result rnd l + a * x)
  end.

(** Roundings one after the other, and all of them. *)
Fixpoint depth (t : evaluation) : nat :=
  match t with Given _ => 0 | Product _ _ => 1 | Sum l r => S (Nat.max (depth l) (depth r)) | Fused l _ _ => S (depth l) end.
Fixpoint roundings (t : evaluation) : nat :=
  match t with Given _ => 0 | Product _ _ => 1 | Sum l r => S (roundings l + roundings r) | Fused l _ _ => S (roundings l) end.

Fixpoint products (row x : list R) : list R :=
  match row, x with a :: row', b :: x' => a * b :: products row' x' | _, _ => [] end.

Definition total (l : list R) : R := fold_right Rplus 0 l.
Definition magnitude (l : list R) : R := fold_right (fun a s => Rabs a + s) 0 l.

(** [y] is phi (A x + c) as a program computes it: each entry one evaluation, in any order, of the products of its row and
    of more terms, whose sum is c and whose moduli add up to at most [large]. *)
Fixpoint evaluates (rnd : R -> R) (deep many : nat) (a : activation) (A : list (list R)) (large c x y : list R) : Prop :=
  match A, large, c, y with
  | row :: A', l :: large', b :: c', v :: y' =>
      (exists t more, total more = b /\ magnitude more <= l /\ Permutation (terms t) (more ++ products row x)
        /\ (depth t <= deep)%nat /\ (roundings t <= many)%nat /\ v = apply a (result rnd t))
      /\ evaluates rnd deep many a A' large' c' x y'
  | [], [], [], [] => True
  | _, _, _, _ => False
  end.

(** ** How far an evaluation is from the sum *)
Lemma total_app l m : total (l ++ m) = total l + total m.
Proof. unfold total. induction l; simpl; lra. Qed.
Lemma magnitude_app l m : magnitude (l ++ m) = magnitude l + magnitude m.
Proof. unfold magnitude. induction l; simpl; lra. Qed.
Lemma magnitude_nonneg l : 0 <= magnitude l.
Proof. unfold magnitude. induction l as [|a l IH]; simpl; [lra|]. pose proof (Rabs_pos a). lra. Qed.
Lemma total_magnitude l : Rabs (total l) <= magnitude l.
Proof.
  unfold total, magnitude. induction l as [|a l IH]; simpl; [rewrite Rabs_R0; lra|].
  pose proof (Rabs_triang a (fold_right Rplus 0 l)). lra.
Qed.
Lemma total_permutation l m : Permutation l m -> total l = total m.
Proof. unfold total. induction 1; simpl; lra. Qed.
Lemma magnitude_permutation l m : Permutation l m -> magnitude l = magnitude m.
Proof. unfold magnitude. induction 1; simpl; lra. Qed.

Section Error.
Variables (unit least : R) (rnd : R -> R).
Hypothesis unit0 : 0 <= unit.
Hypothesis least0 : 0 <= least.
Hypothesis correct : rounds unit least rnd.

Lemma grown h : 1 <= (1 + unit) ^ h.
Proof. apply Rle_trans with (1 ^ h); [rewrite pow1; lra | apply pow_incr; lra]. Qed.

Lemma grows h k : (h <= k)%nat -> (1 + unit) ^ h <= (1 + unit) ^ k.
Proof. intros le. apply Rle_pow; [lra | exact le]. Qed.

(** One more rounding of a sum whose parts are known so well. *)
Lemma rounding_step g A n v e : 1 <= g -> 0 <= A -> 0 <= n -> Rabs e <= A ->
  Rabs (v - e) <= (g - 1) * A + n * g * least ->
  Rabs (rnd v - e) <= ((1 + unit) * g - 1) * A + (n + 1) * ((1 + unit) * g) * least.
Proof.
  intros g1 A0 n0 small near. pose proof (correct v) as r.
  pose proof (Rabs_triang (rnd v - v) (v - e)) as t. replace (rnd v - v + (v - e)) with (rnd v - e) in t by ring.
  pose proof (Rabs_triang (v - e) e) as s. replace (v - e + e) with v in s by ring.
  assert (big : unit * Rabs v <= unit * (Rabs (v - e) + A)) by (apply Rmult_le_compat_l; lra).
  apply Rle_trans with ((1 + unit) * ((g - 1) * A + n * g * least) + unit * A + least); [nra|].
  assert (least <= (1 + unit) * g * least).
  { rewrite <- (Rmult_1_l least) at 1. apply Rmult_le_compat_r; [exact least0 | nra]. }
  nra.
Qed.

Lemma evaluation_error t :
  Rabs (result rnd t - total (terms t))
  <= ((1 + unit) ^ depth t - 1) * magnitude (terms t) + INR (roundings t) * (1 + unit) ^ depth t * least.
Proof.
  induction t as [b|a x|l IHl r IHr|l IHl a x].
  - simpl. replace (b - (b + 0)) with 0 by ring. rewrite Rabs_R0. lra.
  - pose proof (@rounding_step 1 (magnitude [a * x]) 0 (a * x) (total [a * x])) as s.
    assert (base : Rabs (a * x - total [a * x]) <= (1 - 1) * magnitude [a * x] + 0 * 1 * least).
    { simpl. replace (a * x - (a * x + 0)) with 0 by ring. rewrite Rabs_R0. lra. }
    specialize (s ltac:(lra) (magnitude_nonneg _) ltac:(lra) (total_magnitude _) base).
    change (Rabs (rnd (a * x) - total [a * x])
      <= ((1 + unit) * 1 - 1) * magnitude [a * x] + 1 * ((1 + unit) * 1) * least).
    lra.
  - set (h := Nat.max (depth l) (depth r)). cbn [depth terms result roundings]. fold h.
    rewrite total_app, magnitude_app. rewrite S_INR, plus_INR.
    replace ((1 + unit) ^ S h) with ((1 + unit) * (1 + unit) ^ h) by reflexivity.
    pose proof (magnitude_nonneg (terms l)) as ml. pose proof (magnitude_nonneg (terms r)) as mr.
    pose proof (pos_INR (roundings l)) as nl. pose proof (pos_INR (roundings r)) as nr.
    pose proof (@grows (depth l) h (Nat.le_max_l _ _)) as gl. pose proof (@grows (depth r) h (Nat.le_max_r _ _)) as gr.
    apply rounding_step; try lra; [apply grown | |].
    + apply Rle_trans with (1 := Rabs_triang _ _). apply Rplus_le_compat; apply total_magnitude.
    + replace (result rnd l + result rnd r - (total (terms l) + total (terms r)))
        with ((result rnd l - total (terms l)) + (result rnd r - total (terms r))) by ring.
      apply Rle_trans with (1 := Rabs_triang _ _).
      set (g := (1 + unit) ^ h) in *. set (gl' := (1 + unit) ^ depth l) in *. set (gr' := (1 + unit) ^ depth r) in *.
      assert ((gl' - 1) * magnitude (terms l) <= (g - 1) * magnitude (terms l)) by (apply Rmult_le_compat_r; lra).
      assert ((gr' - 1) * magnitude (terms r) <= (g - 1) * magnitude (terms r)) by (apply Rmult_le_compat_r; lra).
      assert (INR (roundings l) * gl' * least <= INR (roundings l) * g * least).
      { apply Rmult_le_compat_r; [exact least0|]. apply Rmult_le_compat_l; assumption. }
      assert (INR (roundings r) * gr' * least <= INR (roundings r) * g * least).
      { apply Rmult_le_compat_r; [exact least0|]. apply Rmult_le_compat_l; assumption. }
      lra.
  - cbn [depth terms result roundings]. rewrite S_INR.
    replace ((1 + unit) ^ S (depth l)) with ((1 + unit) * (1 + unit) ^ depth l) by reflexivity.
    change (total (a * x :: terms l)) with (a * x + total (terms l)).
    change (magnitude (a * x :: terms l)) with (Rabs (a * x) + magnitude (terms l)).
    pose proof (magnitude_nonneg (terms l)) as ml. pose proof (pos_INR (roundings l)) as nl.
    pose proof (grown (depth l)) as g1. pose proof (Rabs_pos (a * x)) as p0.
    apply rounding_step; try lra.
    + apply Rle_trans with (1 := Rabs_triang _ _). pose proof (total_magnitude (terms l)). lra.
    + replace (result rnd l + a * x - (a * x + total (terms l))) with (result rnd l - total (terms l)) by ring.
      assert (0 <= ((1 + unit) ^ depth l - 1) * Rabs (a * x)) by (apply Rmult_le_pos; lra). lra.
Qed.

Lemma evaluation_bound t g deep many A : (depth t <= deep)%nat -> (roundings t <= many)%nat ->
  (1 + unit) ^ deep <= 1 + g -> magnitude (terms t) <= A ->
  Rabs (result rnd t - total (terms t)) <= g * A + INR many * (1 + g) * least.
Proof.
  intros d r le small. apply Rle_trans with (1 := evaluation_error t).
  pose proof (grows d) as gd. pose proof (grown (depth t)) as g1. pose proof (magnitude_nonneg (terms t)) as m0.
  pose proof (pos_INR (roundings t)) as n0. apply le_INR in r.
  apply Rplus_le_compat.
  - apply Rle_trans with (g * magnitude (terms t)); [apply Rmult_le_compat_r; lra | apply Rmult_le_compat_l; lra].
  - apply Rmult_le_compat_r; [exact least0|].
    apply Rle_trans with (INR many * (1 + unit) ^ depth t); [apply Rmult_le_compat_r; lra|].
    apply Rmult_le_compat_l; lra.
Qed.
End Error.

Lemma products_total row : forall x, total (products row x) = dot row x.
Proof. induction row as [|a row IH]; intros [|b x]; simpl; try reflexivity. unfold total in *. simpl. now rewrite IH. Qed.

(** ** The checker: s is the slack that rounding needs, l bounds the moduli of the terms that make the shift *)
Local Open Scope Z_scope.
Local Open Scope bool_scope.

Definition reach (B : box) : list Z := map (fun p => Z.abs (fst p) + snd p) (combine (fst B) (snd B)).

Fixpoint room_ok (e : Z) (top : list Z) (many gn gd : Z) (fs : list Z) (rows : list (list Z)) (gs cs ls ss : list Z) : bool :=
  match fs, rows, gs, cs, ls, ss with
  | f :: fs', row :: rows', g :: gs', c :: cs', l :: ls', s :: ss' =>
      let up := 2 ^ (f + e - g) in
      (0 <=? f) && (0 <=? g) && (g <=? f + e)
      && (gn * (l * up + absolute_dot top row 0) * 2 ^ 150 + many * (gd + gn) * 2 ^ (f + e) <=? gd * (s * up) * 2 ^ 150)
      && room_ok e top many gn gd fs' rows' gs' cs' ls' ss'
  | [], [], [], [], [], [] => true
  | _, _, _, _, _, _ => false
  end.

(** For float32: unit 2^-24, least 2^-150. *)
Definition floats_ok (e : Z) (B : box) (w : stored) (given : shift) (large : list Z) (deep many : nat) (gn gd : Z) : bool :=
  (0 <=? e) && (0 <=? gn) && (0 <? gd)
  && ((2 ^ 24 + 1) ^ Z.of_nat deep * gd <=? (gd + gn) * 2 ^ (24 * Z.of_nat deep))
  && room_ok e (reach B) (Z.of_nat many) gn gd (exponents w) (mantissas w) (places given) (values given) large (slack given).

Local Open Scope R_scope.

(** ** Soundness *)
Lemma products_magnitude e f : (0 <= e)%Z -> (0 <= f)%Z -> forall row rs x cs,
  within (map (dyadic e) rs) x (map (dyadic e) cs) ->
  magnitude (products (map (dyadic f) row) x)
  <= dyadic (f + e) (absolute_dot (map (fun p => Z.abs (fst p) + snd p)%Z (combine cs rs)) row 0).
Proof.
  intros e0 f0. assert (zero : dyadic (f + e) 0 = 0) by (unfold dyadic, Rdiv; ring).
  induction row as [|a row IH]; intros [|r rs] [|b x] [|c cs]; cbn [map within products combine absolute_dot]; try tauto;
    try (intros _; rewrite zero; unfold magnitude; simpl; lra).
  intros [near rest]. specialize (IH rs x cs rest).
  rewrite absolute_dot_total, dyadic_sum, Z.add_0_l, Z.mul_comm, <- dyadic_product by assumption.
  change (magnitude (dyadic f a * b :: products (map (dyadic f) row) x))
    with (Rabs (dyadic f a * b) + magnitude (products (map (dyadic f) row) x)).
  apply Rplus_le_compat; [|exact IH]. rewrite Rabs_mult, dyadic_abs by assumption.
  apply Rmult_le_compat_l; [rewrite <- dyadic_abs by assumption; apply Rabs_pos|].
  cbn [fst snd]. rewrite dyadic_sum, <- dyadic_abs by assumption.
  pose proof (Rabs_triang (b - dyadic e c) (dyadic e c)) as t.
  replace (b - dyadic e c + dyadic e c) with b in t by ring. lra.
Qed.

Section Program.
Variables (rnd : R -> R) (e : Z) (B : box) (deep many : nat) (gn gd : Z).
Let unit := / 2 ^ 24.
Let least := / 2 ^ 150.
Hypothesis correct : rounds unit least rnd.
Hypothesis e0 : (0 <= e)%Z.
Hypothesis gd0 : (0 < gd)%Z.
Hypothesis growth : (1 + unit) ^ deep <= 1 + rational gn gd.

Lemma power_real n : IZR (2 ^ Z.of_nat n) = 2 ^ n.
Proof. rewrite <- pow_IZR. reflexivity. Qed.

Lemma room_ok_sound a x : inside e B x -> forall fs rows gs cs ls ss y,
  room_ok e (reach B) (Z.of_nat many) gn gd fs rows gs cs ls ss = true ->
  evaluates rnd deep many a (dyadic_rows fs rows) (dyadics gs ls) (dyadics gs cs) x y ->
  exists c, within (dyadics gs ss) c (dyadics gs cs) /\ y = layer a (dyadic_rows fs rows) c x.
Proof.
  intros near. induction fs as [|f fs IH];
    intros [|row rows] [|g gs] [|c cs] [|l ls] [|s ss]; cbn [room_ok]; try discriminate.
  { intros [|v y]; cbn [dyadic_rows dyadics evaluates]; [|tauto]. intros _ _. exists []. split; [exact I | reflexivity]. }
  intros [|v y]; rewrite !Bool.andb_true_iff; intros [[[[f0 g0] gs0] le] rest];
    cbn [dyadic_rows dyadics evaluates]; [tauto|].
  intros [[t [more [given_total [small [perm [d [r ->]]]]]]] others].
  destruct (IH rows gs cs ls ss y rest others) as [c' [near_c ->]].
  apply Z.leb_le in f0. apply Z.leb_le in g0. apply Z.leb_le in gs0. apply Z.leb_le, IZR_le in le.
  exists (total more + (result rnd t - total (terms t)) :: c'). cbn [within layer].
  assert (sum : total (terms t) = total more + dot (map (dyadic f) row) x).
  { now rewrite (total_permutation perm), total_app, products_total. }
  split.
  2: { f_equal. f_equal. rewrite sum. ring. }
  split; [|exact near_c].
  assert (scale0 : (0 <= f + e)%Z) by lia. pose proof (dyadic_positive scale0) as sc.
  assert (unit0 : 0 <= unit) by (unfold unit; left; apply Rinv_0_lt_compat; apply pow_lt; lra).
  assert (least0 : 0 <= least) by (unfold least; left; apply Rinv_0_lt_compat; apply pow_lt; lra).
  assert (size : magnitude (terms t) <= dyadic g l + dyadic (f + e) (absolute_dot (reach B) row 0)).
  { rewrite (magnitude_permutation perm), magnitude_app.
    apply Rplus_le_compat; [exact small | exact (products_magnitude e0 f0 row _ _ _ near)]. }
  pose proof (evaluation_bound unit0 least0 correct t d r growth size) as err.
  replace (total more + (result rnd t - total (terms t)) - dyadic g c) with
    (total more - dyadic g c + (result rnd t - total (terms t))) by ring.
  rewrite given_total. replace (dyadic g c - dyadic g c + (result rnd t - total (terms t)))
    with (result rnd t - total (terms t)) by ring.
  apply Rle_trans with (1 := err).
  assert (gd1 : 0 < IZR gd) by now apply IZR_lt.
  rewrite (@dyadic_shift (f + e) g l), (@dyadic_shift (f + e) g s) by lia.
  set (up := (2 ^ (f + e - g))%Z) in *. set (ad := absolute_dot (reach B) row 0) in *.
  rewrite <- dyadic_sum. unfold dyadic, rational, least. rewrite INR_IZR_INZ.
  rewrite !mult_IZR, plus_IZR, !mult_IZR in le.
  assert (p150 : IZR (2 ^ 150) = 2 ^ 150) by exact (power_real 150). rewrite p150 in le.
  assert (b150 : 0 < 2 ^ 150) by (apply pow_lt; lra).
  clear least0 err. set (q := 2 ^ 150) in *. clearbody q.
  set (X := IZR (l * up + ad)) in *. set (Y := IZR (s * up)) in *.
  apply Rmult_le_reg_r with (IZR gd * q * IZR (2 ^ (f + e))).
  { apply Rmult_lt_0_compat; [apply Rmult_lt_0_compat; [exact gd1 | exact b150] | exact sc]. }
  replace ((IZR gn / IZR gd * (X / IZR (2 ^ (f + e)))
      + IZR (Z.of_nat many) * (1 + IZR gn / IZR gd) * / q) * (IZR gd * q * IZR (2 ^ (f + e))))
    with (IZR gn * X * q + IZR (Z.of_nat many) * (IZR gd + IZR gn) * IZR (2 ^ (f + e))) by (field; lra).
  replace (Y / IZR (2 ^ (f + e)) * (IZR gd * q * IZR (2 ^ (f + e)))) with (IZR gd * Y * q) by (field; lra).
  unfold Y. rewrite mult_IZR. rewrite plus_IZR in le. exact le.
Qed.
End Program.

(** Iterates of a float32 program stay in the box that holds the fixed point of the exact layer. *)
Definition floats_stay (e : Z) (B : box) (w : stored) (given : shift) (large : list Z) (deep many : nat) : Prop :=
  forall rnd P, rounds (/ 2 ^ 24) (/ 2 ^ 150) rnd ->
  (forall x, inside e B x ->
     evaluates rnd deep many (phi w) (matrix w) (dyadics (places given) large) (exactly given) x (P x)) ->
  forall x m, inside e B x -> inside e B (iterates P x m).

Theorem floats_ok_sound n e B w given large deep many gn gd :
  (located_ok n e B [w] [given] [] && floats_ok e B w given large deep many gn gd)%bool = true ->
  floats_stay e B w given large deep many.
Proof.
  rewrite Bool.andb_true_iff. intros [loc ok] rnd P correct program.
  unfold floats_ok in ok. rewrite !Bool.andb_true_iff in ok. destruct ok as [[[[e0 gn0] gd0] power] room].
  apply Z.leb_le in e0. apply Z.leb_le in gn0. apply Z.ltb_lt in gd0. apply Z.leb_le, IZR_le in power.
  assert (growth : (1 + / 2 ^ 24) ^ deep <= 1 + rational gn gd).
  { rewrite !mult_IZR, plus_IZR, <- pow_IZR, plus_IZR in power.
    rewrite Z.pow_mul_r in power by lia. rewrite <- pow_IZR in power.
    change (IZR (2 ^ 24)) with (IZR (2 ^ Z.of_nat 24)) in power. rewrite power_real in power.
    apply IZR_lt in gd0. assert (b : 0 < 2 ^ 24) by (apply pow_lt; lra).
    assert (bd : 0 < (2 ^ 24) ^ deep) by now apply pow_lt.
    replace (1 + / 2 ^ 24) with ((2 ^ 24 + 1) * / 2 ^ 24) by (field; lra).
    rewrite Rpow_mult_distr, pow_inv. unfold rational.
    apply Rmult_le_reg_r with ((2 ^ 24) ^ deep * IZR gd); [now apply Rmult_lt_0_compat|].
    replace ((2 ^ 24 + 1) ^ deep * / (2 ^ 24) ^ deep * ((2 ^ 24) ^ deep * IZR gd))
      with ((2 ^ 24 + 1) ^ deep * IZR gd) by (field; lra).
    replace ((1 + IZR gn / IZR gd) * ((2 ^ 24) ^ deep * IZR gd)) with ((IZR gd + IZR gn) * (2 ^ 24) ^ deep)
      by (field; lra). exact power. }
  unfold located_ok in loc. rewrite !Bool.andb_true_iff in loc. destruct loc as [_ boxes].
  intros x m near. induction m as [|m IH]; [exact near|]. cbn [iterates].
  destruct (@room_ok_sound rnd e B deep many gn gd correct e0 gd0 growth (phi w) _ IH _ _ _ _ _ _ _ room
    (program _ IH)) as [c [near_c ->]].
  assert (admitted : Forall2 admits [given] [c]) by (constructor; [exact near_c | constructor]).
  exact (proj2 (@boxes_ok_sound e B e0 [w] B [given] [] [c] _ boxes admitted IH)).
Qed.

(** Rounding to nearest in float32, ties to even, where nothing overflows. *)
Theorem float32_rounds : rounds (/ 2 ^ 24) (/ 2 ^ 150) (round radix2 (FLT_exp (-149) 24) ZnearestE).
Proof.
  intros x. destruct (error_N_FLT radix2 (-149) 24 ltac:(lia) (fun n => negb (Z.even n)) x)
    as [eps [eta [le_eps [le_eta [_ ->]]]]].
  replace (x * (1 + eps) + eta - x) with (x * eps + eta) by ring.
  apply Rle_trans with (1 := Rabs_triang _ _). rewrite Rabs_mult.
  assert (small : Rabs eps <= / 2 ^ 24).
  { apply Rle_trans with (1 := le_eps). unfold u_ro. cbn [bpow radix2]. simpl Z.opp. apply Rmult_le_reg_r with (2 ^ 24).
    - apply pow_lt; lra.
    - rewrite Rinv_l by (apply pow_nonzero; lra). simpl. lra. }
  assert (tiny : Rabs eta <= / 2 ^ 150).
  { apply Rle_trans with (1 := le_eta). right.
    change (bpow radix2 (-149)) with (/ IZR (2 ^ Z.of_nat 149)). rewrite power_real.
    rewrite <- Rinv_mult. f_equal. }
  pose proof (Rabs_pos x). nra.
Qed.
